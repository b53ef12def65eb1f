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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) forwardCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use: "forward VM [LOCAL:]PORT…", Short: "Forward local ports to ports of a VM", Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeVM,
		Long: `forward listens on local ports and carries each connection to a port inside a
VM, until Ctrl-C. Local port 0 takes a free one. What is listened on is printed.`,
		Example: `  aether-cli forward my-vm 3000
  aether-cli forward my-vm 8081:80 5433:5432`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			var pairs []portPair
			for _, arg := range args[1:] {
				p, err := parsePorts(arg)
				if err != nil {
					return err
				}
				pairs = append(pairs, p)
			}
			return a.forward(ctx, args[0], address, pairs)
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1", "local address to listen on")
	return cmd
}

// portPair is a local port and the VM's that it leads to.
type portPair struct{ local, remote int }

// parsePorts reads "LOCAL:REMOTE" or "PORT". Local port 0 takes a free one.
func parsePorts(s string) (portPair, error) {
	l, r, two := strings.Cut(s, ":")
	if !two {
		r = l
	}
	const most = 65535
	local, lerr := strconv.Atoi(l)
	remote, rerr := strconv.Atoi(r)
	if lerr != nil || rerr != nil || local < 0 || local > most || remote < 1 || remote > most {
		return portPair{}, usagef("%q is no pair of ports: use PORT or LOCAL:PORT, from 1 to 65535", s)
	}
	return portPair{local, remote}, nil
}

// forward listens until ctx ends.
func (a *app) forward(ctx context.Context, vm, address string, pairs []portPair) error {
	if _, err := a.client.GetVM(ctx, vm); err != nil {
		return err
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range pairs {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(p.local)))
		if err != nil {
			return types.Errorf(types.KindConflict, "cannot listen on port %d: %w", p.local, err).WithRemedy("choose another local port, as 0:%d", p.remote)
		}
		serving.Go(func() { a.serve(ctx, l, vm, p.remote) })
		if _, err := fmt.Fprintf(a.out, "%s → %s:%d\n", l.Addr(), vm, p.remote); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// serve carries connections until ctx ends.
func (a *app) serve(ctx context.Context, l net.Listener, vm string, port int) {
	var open sync.WaitGroup
	defer open.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors, say; some will be free again
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		open.Go(func() { a.carry(ctx, conn, vm, port) })
	}
}

func (a *app) carry(ctx context.Context, local net.Conn, vm string, port int) {
	defer func() { _ = local.Close() }()
	remote, err := a.client.Tunnel(ctx, vm, port)
	if err != nil {
		if ctx.Err() == nil {
			a.say("%s", sentence(types.AsError(err)))
		}
		return
	}
	defer context.AfterFunc(ctx, func() {
		_ = local.Close()
		_ = remote.Close()
	})()
	join(local, remote)
}

// join copies both ways until the remote end is done. When the local one has said
// all it has to say, the answer may still be on its way, and a tunnel cannot tell
// the other side: so it ends once nothing has come for a while.
func join(local, remote net.Conn) {
	down := &patientReader{conn: remote}
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, _ = io.Copy(remote, local)
		down.hurry()
	}()
	_, _ = io.Copy(local, down)
	_ = remote.Close()
	_ = local.Close()
	<-up
}

// patientReader waits without end, until it is told to hurry.
type patientReader struct {
	conn    net.Conn
	hurried atomic.Bool
}

func (r *patientReader) hurry() {
	const quiet = 10 * time.Second
	r.hurried.Store(true)
	_ = r.conn.SetReadDeadline(time.Now().Add(quiet))
}

func (r *patientReader) Read(b []byte) (int, error) {
	n, err := r.conn.Read(b)
	if n > 0 && r.hurried.Load() {
		r.hurry()
	}
	return n, err
}
