package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/types"
)

// execFlags are what exec and shell are given.
type execFlags struct {
	spec                     types.ExecSpec
	env                      []string
	interactive, tty, detach bool
	timeout                  time.Duration
}

func (a *app) execCommand() *cobra.Command {
	var e execFlags
	cmd := &cobra.Command{
		Use: "exec VM [flags] -- COMMAND [ARG…]", Short: "Run a command in a VM", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVM,
		DisableFlagsInUseLine: true,
		Long: `exec runs a command in a VM, without a shell, and streams its output. It exits
with the command's own code.

What is piped in becomes the command's standard input; -i=false leaves it alone,
as in a loop that reads lines. Ctrl-C interrupts the command; a second one within
two seconds cancels its task, a third leaves at once. A connection that breaks is
made again, and the streams go on at the very byte.`,
		Example: `  aether-cli exec my-vm -- uname -a
  aether-cli exec my-vm -e CI=1 -w /root/src -- make test
  tar c src | aether-cli exec my-vm -- tar x -C /root
  aether-cli exec -it my-vm -- bash
  aether-cli exec -it my-vm -- sh -c 'cd /root && ls | wc -l'
  TASK=$(aether-cli exec -d -o id my-vm -- sleep 60); aether-cli task logs -f $TASK`,
		RunE: func(cmd *cobra.Command, args []string) error {
			line, err := a.commandLine(cmd, args)
			if err != nil || line == nil {
				return err
			}
			if len(line) == 0 {
				return usagef("exec: no command after the VM, as in aether-cli exec %s -- uname -a", args[0])
			}
			e.spec.Command, e.spec.Args = line[0], line[1:]
			if e.spec.Env, err = pairs("env", e.env); err != nil {
				return err
			}
			e.spec.TTY, e.spec.Timeout = e.tty, types.Duration(e.timeout)
			e.spec.StdinOpen = e.interactive || !cmd.Flags().Changed("interactive") && a.piped()
			if e.detach {
				if e.interactive || e.tty {
					return usagef("exec: --detach goes with neither --interactive nor --tty: nobody is there")
				}
				e.spec.StdinOpen = false
				return a.detach(cmd.Context(), args[0], e.spec)
			}
			return a.exec(cmd.Context(), args[0], e.spec)
		},
	}
	e.where(cmd)
	f := cmd.Flags()
	f.BoolVarP(&e.interactive, "interactive", "i", false, "pass standard input on, also from a terminal; a pipe or file is passed on anyway, unless -i=false")
	f.BoolVarP(&e.tty, "tty", "t", false, "give the command a terminal")
	f.DurationVar(&e.timeout, "timeout", 0, "end the command after this, as 90s")
	f.Int64Var(&e.spec.OutputLimit, "output-limit", 0, "output to keep in the task's record, in bytes (default 16 MiB)")
	f.BoolVarP(&e.detach, "detach", "d", false, "print the task and do not wait")
	return cmd
}

func (a *app) shellCommand() *cobra.Command {
	var e execFlags
	cmd := &cobra.Command{
		Use: "shell VM [flags] [-- COMMAND [ARG…]]", Short: "Open a shell in a VM", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVM,
		DisableFlagsInUseLine: true,
		Long: `shell opens a login shell, or the command given, on a terminal in a VM, as
exec -it does. The terminal's size is followed. It exits with the shell's code.`,
		Example: `  aether-cli shell my-vm
  aether-cli shell my-vm -u nobody -w /tmp
  aether-cli shell my-vm -- python3`,
		RunE: func(cmd *cobra.Command, args []string) error {
			line, err := a.commandLine(cmd, args)
			if err != nil || line == nil {
				return err
			}
			e.spec.Command, e.spec.Args = "/bin/sh", []string{"-c", "command -v bash >/dev/null && exec bash -l || exec sh -l"}
			if len(line) > 0 {
				e.spec.Command, e.spec.Args = line[0], line[1:]
			}
			if e.spec.Env, err = pairs("env", e.env); err != nil {
				return err
			}
			e.spec.TTY, e.spec.StdinOpen = true, true
			return a.exec(cmd.Context(), args[0], e.spec)
		},
	}
	e.where(cmd)
	return cmd
}

// where are the flags about a command's surroundings. Flags end at the first
// argument: what comes after the VM is told apart by commandLine.
func (e *execFlags) where(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringArrayVarP(&e.env, "env", "e", nil, "NAME=value; may be repeated")
	f.StringVarP(&e.spec.Cwd, "workdir", "w", "", "working folder")
	f.StringVarP(&e.spec.User, "user", "u", "", "name, uid, name:group or uid:gid (default root)")
}

// commandLine is the command after the VM: what comes after --, with flags of
// ours between; or, where no flag and no -- follows the VM, all of it. It is nil
// if help was asked for and given.
func (a *app) commandLine(cmd *cobra.Command, args []string) ([]string, error) {
	line := args[1:]
	if len(line) == 0 || len(line[0]) < 2 || line[0][0] != '-' {
		return append([]string{}, line...), nil
	}
	f := cmd.Flags()
	if err := f.Parse(line); err != nil {
		return nil, cmd.FlagErrorFunc()(cmd, err)
	}
	if help, err := f.GetBool("help"); err == nil && help {
		return nil, cmd.Help()
	}
	// The flags may have named another server.
	return append([]string{}, f.Args()...), a.connect(cmd)
}

// piped reports whether something other than a terminal is to be read: a pipe or
// a file, but not the null device.
func (a *app) piped() bool {
	f, ok := a.in.(*os.File)
	if !ok {
		return a.in != nil
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice == 0
}

// detach gives a task and prints it.
func (a *app) detach(ctx context.Context, vm string, spec types.ExecSpec) error {
	task, err := a.client.Execute(ctx, vm, spec, 0)
	if err != nil {
		return err
	}
	return printOne(a, taskTable, task)
}
