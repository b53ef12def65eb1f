package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/aetherium/aetherium/libs/types"
)

func (p *program) upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Short: "Run the whole platform in one process", Args: cobra.NoArgs,
		Long: `up runs gateway and worker in one process, with SQLite and an in-process queue:
no service to install. It needs root. VMs live on when it ends, and it finds
them again; aetherium cleanup takes everything away.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.up(cmd.Context()) },
	}
	p.settings.gatewayFlags(cmd)
	p.settings.workerFlags(cmd)
	return cmd
}

func (p *program) up(ctx context.Context) error {
	s := p.settings
	if err := errors.Join(s.validateGateway(), s.validateWorker()); err != nil {
		return err
	}
	lock, err := lockDataDir(s.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	l, err := listen("listen", s.Listen)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	h, err := p.openHost(ctx)
	if err != nil {
		return err
	}
	b, err := p.openBackends(ctx, "sqlite://"+filepath.Join(s.DataDir, "aetherium.db"), "embedded", true)
	if err != nil {
		return err
	}
	defer b.close()
	socket := filepath.Join(s.DataDir, "worker.sock")
	face, err := listenUnix(socket)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(p.out, "Aetherium answers at http://%s (API: http://%s/api/v1/docs)\n", l.Addr(), l.Addr())
	group, ctx := errgroup.WithContext(ctx)
	// The gateway ends after the worker has said that it drains.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer stop()
		return p.runWorker(ctx, b, h, face, "unix://"+socket, "")
	})
	group.Go(func() error { return p.runGateway(serving, l, b) })
	return group.Wait()
}

// listenUnix opens a socket that only this user can connect to, in the place of
// one that an earlier process left.
func listenUnix(path string) (net.Listener, error) {
	_ = os.Remove(path)
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, types.InvalidField("data_dir", filepath.Dir(path), "has no room for the worker's socket: "+err.Error(), "choose a folder with a path of at most 90 characters")
	}
	return l, nil
}

func (p *program) gatewayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "gateway", Short: "Run a gateway: the REST API and the dispatcher", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := errors.Join(p.settings.validateDistributed(), p.settings.validateGateway()); err != nil {
				return err
			}
			l, err := listen("listen", p.settings.Listen)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }()
			b, err := p.openBackends(ctx, p.settings.DatabaseURL, p.settings.RedisURL, p.settings.Migrate)
			if err != nil {
				return err
			}
			defer b.close()
			_, _ = fmt.Fprintf(p.out, "The gateway answers at http://%s\n", l.Addr())
			return p.runGateway(ctx, l, b)
		},
	}
	p.settings.gatewayFlags(cmd)
	p.settings.sharedFlags(cmd)
	return cmd
}

func (p *program) workerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "worker", Short: "Run a worker: this machine's VMs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.worker(cmd.Context()) },
	}
	p.settings.workerFlags(cmd)
	p.settings.directFlags(cmd)
	p.settings.sharedFlags(cmd)
	return cmd
}

func (p *program) worker(ctx context.Context) error {
	s := p.settings
	if err := errors.Join(s.validateDistributed(), s.validateWorker(), s.validateDirect()); err != nil {
		return err
	}
	lock, err := lockDataDir(s.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	l, err := listen("listen", s.Direct)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	h, err := p.openHost(ctx)
	if err != nil {
		return err
	}
	b, err := p.openBackends(ctx, s.DatabaseURL, s.RedisURL, false)
	if err != nil {
		return err
	}
	defer b.close()
	address := s.Advertise
	if address == "" {
		address = "http://" + l.Addr().String()
	}
	_, _ = fmt.Fprintf(p.out, "The worker is reached at %s\n", address)
	return p.runWorker(ctx, b, h, l, address, s.ClusterToken)
}
