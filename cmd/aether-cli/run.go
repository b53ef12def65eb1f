package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/aetherium/aetherium/libs/client"
)

// version is set by the linker.
var version = "dev"

// world is what a call of the program has around it.
type world struct {
	in       io.Reader // nil: nothing to read
	out, err io.Writer
	env      func(string) string
}

// app is one call of the program.
type app struct {
	world
	url, token, context string // flags
	output              string
	client              *client.Client
}

// run is the program. It answers the exit code: 0, that of the command that ran
// in a VM, 2 for wrong use, else what types.TraitOf says.
func run(ctx context.Context, args []string, w world) int {
	a := &app{world: w}
	root := a.root()
	if isTaskForm(args) {
		root, args = a.taskForm(), doubleDashes(args)
	}
	root.SetArgs(args)
	root.SetIn(w.in)
	root.SetOut(w.out)
	root.SetErr(w.err)
	err := root.ExecuteContext(ctx)
	if a.client != nil {
		a.client.Close()
	}
	return a.explain(err)
}

func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aether-cli",
		Short: "Run commands in isolated VMs",
		Long: `aether-cli talks to an Aetherium server: it creates VMs, runs commands in
them, copies files and follows tasks. Names serve wherever ids do.

Tasks can also be given in one line of flags, with one dash or two:

  aether-cli -type vm:create -name my-vm
  aether-cli -type vm:execute -vm-id my-vm -cmd git -args "clone,https://github.com/user/repo"
  aether-cli -type vm:delete -vm-id my-vm
  aether-cli -type vm:list

The server is, the last weighing the most: http://localhost:8080; the context
that is in use; AETHERIUM_CONTEXT, AETHERIUM_URL and AETHERIUM_TOKEN; --context,
--url and --token. A context's token goes to that context's server alone.

Exit codes: 0; that of the command that ran in a VM; 2 wrong use or a bad value,
3 forbidden, 4 not found, 5 conflict, 6 exhausted, 7 unavailable, 8 unsupported,
9 timed out, 10 canceled, 11 interrupted, 12 out of memory, 1 anything else;
130 after Ctrl-C.`,
		Example: `  aether-cli vm create my-vm
  aether-cli exec my-vm -- uname -a
  aether-cli shell my-vm
  aether-cli cp ./src my-vm:/root/
  aether-cli vm delete my-vm`,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.connect(cmd) },
	}
	a.common(cmd)
	cmd.AddCommand(a.vmCommand(), a.execCommand(), a.shellCommand(), a.copyCommand(), a.forwardCommand(),
		a.taskCommand(), a.workerCommand(), a.imageCommand(), a.eventsCommand(), a.contextCommand(), a.versionCommand())
	return asUsage(cmd)
}

// forms are the forms of output.
var forms = []string{"table", "json", "yaml", "id"}

// common are the flags of every command.
func (a *app) common(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.url, "url", "", "server, as http://host:8080 or unix:///path (environment AETHERIUM_URL)")
	f.StringVar(&a.token, "token", "", "bearer token (environment AETHERIUM_TOKEN)")
	f.StringVar(&a.context, "context", "", "context of the configuration file (environment AETHERIUM_CONTEXT)")
	f.StringVarP(&a.output, "output", "o", "table", "form of the output: table, json, yaml or id")
	complete(cmd, "output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "context", a.completeContext)
}

// connect makes the client. Commands that need no server are told by an
// annotation.
func (a *app) connect(cmd *cobra.Command) error {
	if !slices.Contains(forms, a.output) {
		return usagef("--output %q is no form of output: use table, json, yaml or id", a.output)
	}
	for c := cmd; c != nil; c = c.Parent() {
		if c.Annotations[offline] != "" || c.Name() == "help" || c.Name() == "completion" || c.Name() == cobra.ShellCompRequestCmd {
			return nil
		}
	}
	c, err := a.dial()
	if err != nil {
		return err
	}
	if a.client != nil { // flags after the VM's name may have named another server
		a.client.Close()
	}
	a.client = c
	return nil
}

// dial makes a client of the server that is meant.
func (a *app) dial() (*client.Client, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	return client.New(s.URL, s.Token)
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

// say tells something beside the output, in one line.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, "aether-cli: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

var errInterrupted = errors.New("interrupted")
