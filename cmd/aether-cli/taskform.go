package main

import (
	"context"
	"encoding/csv"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

// switches are the flags of both forms that take no value.
var switches = []string{"wait", "no-wait", "help", "h", "version", "v"}

// flagsOf goes through the flags before the first other argument: at which index,
// and the name. A flag's value may begin with a dash of its own.
func flagsOf(args []string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		for i := 0; i < len(args) && len(args[i]) > 1 && args[i][0] == '-' && args[i] != "--"; i++ {
			name, _, valued := strings.Cut(strings.TrimPrefix(args[i][1:], "-"), "=")
			if !yield(i, name) {
				return
			}
			if !valued && !slices.Contains(switches, name) {
				i++
			}
		}
	}
}

// isTaskForm recognises a task given in one line of flags, with one dash or two:
// aether-cli -type vm:create -name my-vm. A command of the other form may have a
// --type of its own.
func isTaskForm(args []string) bool {
	for _, name := range flagsOf(args) {
		if name == "type" {
			return true
		}
	}
	return false
}

// doubleDashes makes "-name" of this form "--name".
func doubleDashes(args []string) []string {
	out := slices.Clone(args)
	for i, name := range flagsOf(args) {
		if len(name) > 1 && args[i][1] != '-' {
			out[i] = "-" + args[i]
		}
	}
	return out
}

// oneTask is a task as its flags describe it.
type oneTask struct {
	*app
	verb, vm, command, args string
	env                     []string
	spec                    types.VMSpec
	timeout                 time.Duration
	wait, noWait            bool
}

// taskForm is the command of that form.
func (a *app) taskForm() *cobra.Command {
	t := &oneTask{app: a}
	cmd := &cobra.Command{
		Use: "aether-cli -type TYPE", Short: "Give one task in one line of flags", Args: cobra.NoArgs,
		Long: `This form gives one task in one line of flags, with one dash or two, and waits
for its end. vm:execute streams the command's output and exits with its code.`,
		Example: `  aether-cli -type vm:create -name my-vm
  VM_ID=$(aether-cli -type vm:create -o id)
  aether-cli -type vm:execute -vm-id $VM_ID -cmd git -args "clone,https://github.com/user/repo"
  aether-cli -type vm:execute -vm-id my-vm -cmd sh -args '-c,"echo one, two"'
  aether-cli -type vm:stop -vm-id my-vm
  aether-cli -type vm:start -vm-id my-vm
  aether-cli -type vm:delete -vm-id my-vm
  aether-cli -type vm:list`,
		Version: version, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.connect(cmd) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return t.run(cmd.Context()) },
	}
	a.common(cmd)
	f := cmd.Flags()
	f.StringVar(&t.verb, "type", "", "vm:create, vm:start, vm:stop, vm:pause, vm:resume, vm:execute, vm:delete or vm:list")
	f.StringVar(&t.vm, "vm-id", "", "the VM's id or name")
	f.StringVar(&t.spec.Name, "name", "", "vm:create: the VM's name, made up if empty; vm:list: only VMs with this in their name")
	sizes(cmd, &t.spec)
	f.StringArrayVar(&t.env, "env", nil, "vm:create, vm:execute: NAME=value; may be repeated")
	f.StringVar(&t.command, "cmd", "", "vm:execute: the program")
	f.StringVar(&t.args, "args", "", `vm:execute: its arguments, with commas between; "quote" one that has a comma, as in CSV`)
	f.DurationVar(&t.timeout, "timeout", 0, "vm:execute: end the command after this, as 90s")
	f.BoolVar(&t.wait, "wait", true, "wait for the task's end")
	f.BoolVar(&t.noWait, "no-wait", false, "print the task and do not wait, as -wait=false")
	return asUsage(cmd)
}

func (t *oneTask) run(ctx context.Context) error {
	wait := t.wait && !t.noWait
	verb, ok := strings.CutPrefix(t.verb, "vm:")
	if !ok {
		verb = ""
	}
	env, err := pairs("env", t.env)
	if err != nil {
		return err
	}
	switch verb {
	case "create":
		t.spec.Env = env
		return t.create(ctx, t.spec, wait)
	case "list":
		vms, err := t.client.ListVMs(ctx, client.VMFilter{Name: t.spec.Name})
		if err != nil {
			return err
		}
		return printList(t.app, vmTable, vms)
	case "start", "stop", "pause", "resume", "delete", "execute":
	default:
		return usagef("-type %q is no type of task: use vm:create, vm:start, vm:stop, vm:pause, vm:resume, vm:execute, vm:delete or vm:list", t.verb)
	}
	if t.vm == "" {
		return usagef("-type %s needs -vm-id: the VM's name or id", t.verb)
	}
	if verb == "execute" {
		return t.execute(ctx, env, wait)
	}
	return t.act(ctx, []string{t.vm}, verb, wait)
}

func (t *oneTask) execute(ctx context.Context, env map[string]string, wait bool) error {
	if t.command == "" {
		return usagef("-type vm:execute needs -cmd: the program to run")
	}
	args, err := splitArgs(t.args)
	if err != nil {
		return err
	}
	spec := types.ExecSpec{Command: t.command, Args: args, Env: env, Timeout: types.Duration(t.timeout)}
	if wait {
		return t.exec(ctx, t.vm, spec)
	}
	return t.detach(ctx, t.vm, spec)
}

// splitArgs reads arguments as one record of CSV (RFC 4180).
func splitArgs(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	r := csv.NewReader(strings.NewReader(s))
	list, err := r.Read()
	if err == nil {
		if _, more := r.Read(); more == nil {
			err = errors.New("it has more than one line; quote an argument that has line breaks")
		}
	}
	if err != nil {
		return nil, usagef("-args %q cannot be read: %w; separate arguments with commas, quote one that has a comma or a quote, and double the quotes inside", s, err)
	}
	return list, nil
}
