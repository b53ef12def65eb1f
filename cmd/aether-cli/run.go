package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

// version is set by the linker.
var version = "dev"

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// app is one call of the program.
type app struct {
	streams
	url, token, context string // flags
	output              string
	client              *client.Client
}

// exitCode is the error of a command that ran and failed in its VM: its own code,
// and nothing to say about it.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is wrong use of the program.
type usageError struct{ error }

const (
	exitUsage       = 2
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// run is the program. It answers the exit code: 0, that of the command that ran
// in a VM, 2 for wrong use, else what types.TraitOf says.
func run(ctx context.Context, args []string, s streams) int {
	a := &app{streams: s}
	root := a.root()
	root.SetArgs(args)
	if isTaskForm(args) {
		root = a.taskForm()
		root.SetArgs(doubleDashes(args))
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	return a.explain(root.ExecuteContext(ctx))
}

// explain tells an error, in one line, and answers its exit code.
func (a *app) explain(err error) int {
	var code exitCode
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(a.err, "aether-cli: %s\n", oneLine(usage.Error()))
		return exitUsage
	}
	e := types.AsError(err)
	line := e.Message
	if e.Field != "" {
		line = fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Message)
	}
	if e.Remedy != "" {
		line += " (" + e.Remedy + ")"
	}
	_, _ = fmt.Fprintf(a.err, "aether-cli: %s\n", oneLine(line))
	return types.TraitOf(e.Kind).ExitCode
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aether-cli",
		Short: "Run commands in isolated VMs",
		Long: `aether-cli talks to an Aetherium server: it creates VMs, runs commands in
them, copies files and follows tasks. Names serve wherever ids do.

Tasks can also be given in one line:

  aether-cli -type vm:create -name my-vm
  aether-cli -type vm:execute -vm-id my-vm -cmd git -args "clone,https://github.com/user/repo"
  aether-cli -type vm:delete -vm-id my-vm
  aether-cli -type vm:list`,
		Example: `  aether-cli vm create my-vm
  aether-cli exec my-vm -- uname -a
  aether-cli shell my-vm
  aether-cli cp ./src my-vm:/root/
  aether-cli vm delete my-vm`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.connect(cmd)
		},
	}
	a.common(cmd)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.AddCommand(a.vmCommand(), a.execCommand(), a.shellCommand(), a.copyCommand(), a.forwardCommand(),
		a.taskCommand(), a.workerCommand(), a.imageCommand(), a.eventsCommand(), a.contextCommand(), a.versionCommand())
	return asUsage(cmd)
}

// common are the flags of every command.
func (a *app) common(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.url, "url", "", "server, as http://host:8080 (environment AETHERIUM_URL)")
	f.StringVar(&a.token, "token", "", "bearer token (environment AETHERIUM_TOKEN)")
	f.StringVar(&a.context, "context", "", "context of the configuration file (environment AETHERIUM_CONTEXT)")
	f.StringVarP(&a.output, "output", "o", "table", "form of the output: table, json, yaml or id")
}

// asUsage makes cobra's own complaints about arguments usage errors.
func asUsage(cmd *cobra.Command) *cobra.Command {
	if args := cmd.Args; args != nil {
		cmd.Args = func(c *cobra.Command, given []string) error {
			if err := args(c, given); err != nil {
				return usageError{fmt.Errorf("%s: %w; see %s --help", c.CommandPath(), err, c.CommandPath())}
			}
			return nil
		}
	} else if cmd.HasSubCommands() {
		cmd.Args = func(c *cobra.Command, given []string) error {
			if len(given) == 0 {
				return nil
			}
			hint := ""
			if s := c.SuggestionsFor(given[0]); len(s) > 0 {
				hint = "; did you mean " + strings.Join(s, " or ") + "?"
			}
			return usageError{fmt.Errorf("unknown command %q for %s%s", given[0], c.CommandPath(), hint)}
		}
		if cmd.RunE == nil && cmd.Run == nil {
			cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	for _, sub := range cmd.Commands() {
		asUsage(sub)
	}
	return cmd
}

// connect makes the client. Commands that need no server are told by an
// annotation.
func (a *app) connect(cmd *cobra.Command) error {
	switch a.output {
	case "table", "json", "yaml", "id":
	default:
		return usageError{fmt.Errorf("--output %q is no form of output: use table, json, yaml or id", a.output)}
	}
	settings, err := a.settings(os.Getenv)
	if err != nil {
		return err
	}
	if cmd.Annotations[offline] != "" || cmd.Name() == "help" || cmd.Name() == cobra.ShellCompRequestCmd {
		return nil
	}
	a.client, err = client.New(settings.URL, settings.Token)
	return err
}

// offline annotates the commands that need no server.
const offline = "offline"

func noServer() map[string]string { return map[string]string{offline: "true"} }

// terminal answers the descriptor of a stream that is a terminal.
func terminal(v any) (int, bool) {
	f, ok := v.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs, Annotations: noServer(),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, version)
			return err
		},
	}
}
