package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/common/config"
	"github.com/aetherium/aetherium/libs/types"
)

// version is set by the linker.
var version = "dev"

// program is one call.
type program struct {
	out, err io.Writer
	settings settings
	log      *slog.Logger
}

// run is the program. It answers the exit code: 0, 2 for wrong use or settings,
// 1 for whatever else went wrong.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &program{out: out, err: errOut}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for _, one := range parts(err) {
		_, _ = fmt.Fprintln(errOut, "aetherium: "+sentence(one))
	}
	return exitCode(err)
}

// parts takes joined errors apart.
func parts(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // what is joined below is one sentence
	if !ok {
		return []error{err}
	}
	var list []error
	for _, one := range joined.Unwrap() {
		list = append(list, parts(one)...)
	}
	return list
}

func sentence(err error) string {
	e, ok := errors.AsType[*types.Error](err)
	if !ok {
		return strings.Join(strings.Fields(err.Error()), " ")
	}
	s := err.Error()
	if e.Field != "" {
		s = fmt.Sprintf("--%s %q: %s", strings.ReplaceAll(e.Field, "_", "-"), e.Value, e.Message)
	}
	if e.Remedy != "" {
		s += " (" + e.Remedy + ")"
	}
	return strings.Join(strings.Fields(s), " ")
}

var errFindings = errors.New("not all is well: see the lines marked FAIL")

func exitCode(err error) int {
	const failed, usage = 1, 2
	if _, ok := errors.AsType[*types.Error](err); !ok && !errors.Is(err, errFindings) {
		return usage // cobra's own complaints
	}
	switch types.KindOf(err) {
	case types.KindInvalid, types.KindConflict, types.KindUnsupported:
		return usage
	}
	return failed
}

func (p *program) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aetherium",
		Short: "Run isolated workloads in VMs",
		Long: `aetherium runs tasks in isolated VMs.

On one machine, as root:   aetherium up
On many:                   aetherium gateway and aetherium worker, with PostgreSQL and Redis

Every flag can be given as an environment variable (--data-dir as
AETHERIUM_DATA_DIR) or in a YAML file (data_dir) that --config names.`,
		Version: version, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			file, _ := cmd.Flags().GetString("config")
			if file == "" {
				file = os.Getenv(config.EnvName("config"))
			}
			if err := config.Apply(cmd.Flags(), file, os.LookupEnv, known(cmd.Root())); err != nil {
				return err
			}
			var err error
			p.log, err = p.settings.logger(p.err)
			return err
		},
	}
	cmd.PersistentFlags().String("config", "", "YAML file with settings")
	cmd.PersistentFlags().StringVar(&p.settings.LogLevel, "log-level", "info", "debug, info, warn or error")
	cmd.PersistentFlags().StringVar(&p.settings.LogFormat, "log-format", "text", "text or json")
	cmd.AddCommand(p.upCommand(), p.gatewayCommand(), p.workerCommand(), p.migrateCommand(), p.doctorCommand(), p.cleanupCommand(), p.configCommand(), p.versionCommand())
	return cmd
}

// known tells the settings of all commands, which may share a file.
func known(root *cobra.Command) func(string) bool {
	return func(flag string) bool {
		for _, c := range root.Commands() {
			if c.Flags().Lookup(flag) != nil {
				return true
			}
		}
		return false
	}
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.out, version)
			return err
		},
	}
}

func (p *program) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at the settings"}
	show := &cobra.Command{
		Use: "show", Short: "Print the settings as they weigh out, secrets masked", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return config.Show(cmd.Flags(), p.out) },
	}
	p.settings.gatewayFlags(show)
	p.settings.workerFlags(show)
	p.settings.sharedFlags(show)
	cmd.AddCommand(show)
	return cmd
}
