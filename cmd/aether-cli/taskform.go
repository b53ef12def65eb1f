package main

import (
	"encoding/csv"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

// isTaskForm recognises a task given in one line of flags, with one dash or two:
// aether-cli -type vm:create -name my-vm.
func isTaskForm(args []string) bool {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if name == "-type" || name == "--type" {
			return true
		}
		if !strings.HasPrefix(arg, "-") {
			return false // a command of the other form; its --type is its own
		}
	}
	return false
}

// doubleDashes makes "-name" of this form "--name".
func doubleDashes(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = arg
		if len(arg) > 2 && arg[0] == '-' && arg[1] != '-' && (i == 0 || !takesValue(args[i-1])) {
			out[i] = "-" + arg
		}
	}
	return out
}

// takesValue reports whether a flag's value is the next argument, which may
// begin with a dash of its own.
func takesValue(arg string) bool {
	return strings.HasPrefix(arg, "-") && !strings.Contains(arg, "=") && strings.TrimLeft(arg, "-") != "no-wait" && strings.TrimLeft(arg, "-") != "help"
}

// taskForm is the command of that form.
func (a *app) taskForm() *cobra.Command {
	var typ, vm, command, args string
	var spec types.VMSpec
	var timeout time.Duration
	var noWait bool
	cmd := &cobra.Command{
		Use: "aether-cli -type TYPE [flags]", Short: "Give one task", Args: cobra.NoArgs,
		Version: version, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.connect(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			verb, ok := strings.CutPrefix(typ, "vm:")
			if ok && verb != "create" && verb != "list" && vm == "" {
				return usageError{fmt.Errorf("-type %s needs -vm-id: the VM's name or id", typ)}
			}
			switch verb {
			case "create":
				return a.create(ctx, spec, !noWait)
			case "start", "stop", "pause", "resume", "delete":
				return a.act(ctx, vm, verb, !noWait)
			case "execute":
				list, err := splitArgs(args)
				if err != nil {
					return err
				}
				if command == "" {
					return usageError{fmt.Errorf("-type vm:execute needs -cmd: the program to run")}
				}
				e := types.ExecSpec{Command: command, Args: list, Timeout: types.Duration(timeout)}
				if noWait {
					task, err := a.client.Execute(ctx, vm, e, 0)
					if err != nil {
						return err
					}
					return printOne(a, taskTable, task)
				}
				return a.exec(ctx, vm, e)
			case "list":
				vms, err := a.client.ListVMs(ctx, client.VMFilter{})
				if err != nil {
					return err
				}
				return printList(a, vmTable, vms)
			}
			return usageError{fmt.Errorf("-type %q is no type of task: use vm:create, vm:start, vm:stop, vm:pause, vm:resume, vm:execute, vm:delete or vm:list", typ)}
		},
	}
	a.common(cmd)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := cmd.Flags()
	f.StringVar(&typ, "type", "", "vm:create, vm:start, vm:stop, vm:pause, vm:resume, vm:execute, vm:delete or vm:list")
	f.StringVar(&spec.Name, "name", "", "vm:create: the VM's name")
	f.StringVar(&spec.Image, "image", "", "vm:create: the image")
	f.IntVar(&spec.VCPUs, "vcpus", 0, "vm:create: virtual CPUs")
	f.IntVar(&spec.MemoryMiB, "memory", 0, "vm:create: memory in MiB")
	f.IntVar(&spec.DiskMiB, "disk", 0, "vm:create: size of the writable disk in MiB")
	f.StringVar(&vm, "vm-id", "", "the VM's id or name")
	f.StringVar(&command, "cmd", "", "vm:execute: the program")
	f.StringVar(&args, "args", "", `vm:execute: its arguments, with commas between; "quote" one that has a comma, as in CSV`)
	f.DurationVar(&timeout, "timeout", 0, "vm:execute: end the command after this, as 90s")
	f.BoolVar(&noWait, "no-wait", false, "do not wait for the end")
	return asUsage(cmd)
}

// splitArgs reads arguments as one record of CSV (RFC 4180).
func splitArgs(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	r := csv.NewReader(strings.NewReader(s))
	r.TrimLeadingSpace = false
	list, err := r.Read()
	if err == nil {
		if _, more := r.Read(); more == nil {
			err = fmt.Errorf("it has more than one line; quote an argument that has line breaks")
		}
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("-args %q cannot be read: %w; separate arguments with commas and quote one that has a comma or a quote", s, err)}
	}
	return list, nil
}
