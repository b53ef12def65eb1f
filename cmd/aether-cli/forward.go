package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) forwardCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use: "forward VM [LOCAL:]PORT…", Short: "Forward local ports to ports of a VM", Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeVM,
		Example: "  aether-cli forward my-vm 3000\n  aether-cli forward my-vm 8081:80 5433:5432",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.forward(ctx, args[0], address, args[1:])
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1", "local address to listen on")
	return cmd
}

// parsePorts reads "LOCAL:REMOTE" or "PORT". Local port 0 takes a free one.
func parsePorts(s string) (local, remote int, err error) {
	l, r, two := strings.Cut(s, ":")
	if !two {
		r = l
	}
	local, lerr := strconv.Atoi(l)
	remote, rerr := strconv.Atoi(r)
	if lerr != nil || rerr != nil || local < 0 || local > 65535 || remote < 1 || remote > 65535 {
		return 0, 0, usageError{fmt.Errorf("%q is no pair of ports: use PORT or LOCAL:PORT, from 1 to 65535", s)}
	}
	return local, remote, nil
}

// forward listens until ctx ends.
func (a *app) forward(ctx context.Context, vm, address string, ports []string) error {
	if _, err := a.client.GetVM(ctx, vm); err != nil {
		return err
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range ports {
		local, remote, err := parsePorts(p)
		if err != nil {
			return err
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(local)))
		if err != nil {
			return types.Errorf(types.KindConflict, "cannot listen on port %d: %w", local, err).WithRemedy("choose another local port: LOCAL:%d", remote)
		}
		context.AfterFunc(ctx, func() { _ = l.Close() })
		_, _ = fmt.Fprintf(a.out, "%s → %s:%d\n", l.Addr(), vm, remote)
		serving.Go(func() { a.serve(ctx, l, vm, remote) })
	}
	<-ctx.Done()
	return nil
}

func (a *app) serve(ctx context.Context, l net.Listener, vm string, port int) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go func() {
			defer func() { _ = conn.Close() }()
			remote, err := a.client.Tunnel(ctx, vm, port)
			if err != nil {
				_, _ = fmt.Fprintf(a.err, "aether-cli: %s\n", oneLine(err.Error()))
				return
			}
			defer func() { _ = remote.Close() }()
			join(conn, remote)
		}()
	}
}

// join copies both ways until either side is done.
func join(a, b net.Conn) {
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	<-done
}
