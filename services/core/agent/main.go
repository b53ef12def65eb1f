package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Main is the agent as a program. It answers the exit code: 2 for wrong use, 1
// if it could not serve.
func Main(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("aether-agent", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "", "where to answer: unix:PATH")
	showVersion := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case *showVersion:
		_, _ = fmt.Fprintln(stdout, version)
		return 0
	}
	l, err := Listen(*listen)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "aether-agent:", err)
		return 2
	}
	// The first process of a machine outlives whoever's terminal it came from.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := New(version, true).Serve(ctx, l); err != nil {
		_, _ = fmt.Fprintln(stderr, "aether-agent:", err)
		return 1
	}
	return 0
}

// Listen opens an address: "unix:PATH" takes the place of a socket that an
// earlier agent left there.
func Listen(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok || path == "" {
		return nil, fmt.Errorf("--listen %q: use unix:PATH", address)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", path)
}
