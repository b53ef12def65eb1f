package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) execCommand() *cobra.Command {
	var spec types.ExecSpec
	var env []string
	var interactive, detach bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "exec VM [flags] -- COMMAND [ARG…]", Short: "Run a command in a VM", Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeVM,
		Long: `exec runs a command in a VM, without a shell, and streams its output. It exits
with the command's own code. What is piped in becomes the command's standard
input. Ctrl-C interrupts the command; a second one within two seconds cancels
its task.`,
		Example: "  aether-cli exec my-vm -- uname -a\n  tar c src | aether-cli exec my-vm -- tar x -C /root\n  aether-cli exec -it my-vm -- bash",
		RunE: func(cmd *cobra.Command, args []string) error {
			vars, err := pairs("env", env)
			if err != nil {
				return err
			}
			line := commandLine(args)
			if len(line) == 0 {
				return usageError{errors.New("exec: no command after the VM; as in exec my-vm -- uname -a")}
			}
			spec.Env, spec.Command, spec.Args, spec.Timeout = vars, line[0], line[1:], types.Duration(timeout)
			if detach {
				task, err := a.client.Execute(cmd.Context(), args[0], spec, 0)
				if err != nil {
					return err
				}
				return printOne(a, taskTable, task)
			}
			spec.StdinOpen = interactive || a.piped()
			return a.exec(cmd.Context(), args[0], spec)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&interactive, "interactive", "i", false, "pass standard input on, also from a terminal")
	f.BoolVarP(&spec.TTY, "tty", "t", false, "give the command a terminal")
	f.StringArrayVarP(&env, "env", "e", nil, "NAME=value")
	f.StringVarP(&spec.Cwd, "workdir", "w", "", "working folder")
	f.StringVarP(&spec.User, "user", "u", "", "name, uid, name:group or uid:gid")
	f.DurationVar(&timeout, "timeout", 0, "end the command after this, as 90s")
	f.Int64Var(&spec.OutputLimit, "output-limit", 0, "output to keep in the task's record, in bytes")
	f.BoolVarP(&detach, "detach", "d", false, "print the task and do not wait")
	return cmd
}

func (a *app) shellCommand() *cobra.Command {
	var spec types.ExecSpec
	cmd := &cobra.Command{
		Use: "shell VM [-- COMMAND [ARG…]]", Short: "Open a shell in a VM", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Command, spec.Args = "sh", []string{"-c", "if command -v bash >/dev/null; then exec bash -l; else exec sh -l; fi"}
			if line := commandLine(args); len(line) > 0 {
				spec.Command, spec.Args = line[0], line[1:]
			}
			spec.TTY, spec.StdinOpen = true, true
			return a.exec(cmd.Context(), args[0], spec)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVarP(&spec.Cwd, "workdir", "w", "", "working folder")
	cmd.Flags().StringVarP(&spec.User, "user", "u", "", "name, uid, name:group or uid:gid")
	return cmd
}

// commandLine is what comes after the VM, with or without a -- between.
func commandLine(args []string) []string {
	line := args[1:]
	if len(line) > 0 && line[0] == "--" {
		line = line[1:]
	}
	return line
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

// exec runs a command to its end, attached, and answers its exit code.
func (a *app) exec(ctx context.Context, vm string, spec types.ExecSpec) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, inIsTerminal := terminal(a.in)
	if spec.TTY && inIsTerminal {
		if cols, rows, err := term.GetSize(in); err == nil {
			spec.Rows, spec.Cols = rows, cols
		}
	}
	task, err := a.client.Execute(ctx, vm, spec, 0)
	if err != nil {
		return err
	}
	attached := a.client.Attach(task.ID, a.out, a.err)
	if spec.TTY && inIsTerminal {
		raw, err := term.MakeRaw(in)
		if err != nil {
			return types.Errorf(types.KindInvalid, "set up the terminal: %w", err)
		}
		defer func() { _ = term.Restore(in, raw) }()
		go followSize(ctx, in, attached)
	} else {
		go a.forwardSignals(ctx, attached, task.ID)
	}
	if spec.StdinOpen {
		go func() { _ = attached.Stdin(ctx, a.in) }() // the command's end ends it
	}
	end, err := attached.Run(ctx)
	if err != nil {
		return a.endByRecord(ctx, task, err)
	}
	if attached.Cut > 0 {
		_, _ = fmt.Fprintf(a.err, "aether-cli: %d bytes of output were cut\n", attached.Cut)
	}
	return a.outcome(end)
}

// endByRecord asks the task's record for the end, where the stream had none.
func (a *app) endByRecord(ctx context.Context, task types.Task, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	t, err := a.client.WaitTask(ctx, task, nil)
	if err != nil {
		return cause
	}
	return a.outcome(endOf(t))
}

// outcome makes the program's end of a command's.
func (a *app) outcome(end client.End) error {
	if end.Error != nil {
		return end.Error
	}
	if end.Result == nil {
		return types.Errorf(types.KindInternal, "the command ended without a result")
	}
	if end.Result.Reason != "" {
		_, _ = fmt.Fprintf(a.err, "aether-cli: %s\n", oneLine(end.Result.Reason))
	}
	if end.Result.ExitCode != 0 {
		return exitCode(end.Result.ExitCode)
	}
	return nil
}

// followSize tells the command whenever its terminal's size changes.
func followSize(ctx context.Context, fd int, to *client.Attached) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if cols, rows, err := term.GetSize(fd); err == nil {
			_ = to.Resize(ctx, rows, cols)
		}
	}
}

// forwardSignals interrupts the command for a Ctrl-C, and cancels its task for a
// second one soon after.
func (a *app) forwardSignals(ctx context.Context, to *client.Attached, taskID string) {
	const soon = 2 * time.Second
	got := make(chan os.Signal, 4)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(got)
	var last time.Time
	for {
		var sig os.Signal
		select {
		case <-ctx.Done():
			return
		case sig = <-got:
		}
		if time.Since(last) < soon {
			_, _ = a.client.CancelTask(ctx, taskID)
			continue
		}
		last = time.Now()
		name := "SIGINT"
		if sig == syscall.SIGTERM {
			name = "SIGTERM"
		}
		go func() { _ = to.Signal(ctx, name) }()
	}
}
