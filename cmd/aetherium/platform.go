package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/agent/agentbin"
	"github.com/aetherium/aetherium/services/core/dispatch"
	"github.com/aetherium/aetherium/services/core/image"
	"github.com/aetherium/aetherium/services/core/network"
	"github.com/aetherium/aetherium/services/core/queue"
	"github.com/aetherium/aetherium/services/core/runtime"
	"github.com/aetherium/aetherium/services/core/runtime/gvisor"
	"github.com/aetherium/aetherium/services/core/store"
	"github.com/aetherium/aetherium/services/core/worker"
	"github.com/aetherium/aetherium/services/core/worker/direct"
	"github.com/aetherium/aetherium/services/gateway/api"
)

// backends are the two services that everything shares.
type backends struct {
	store *store.Store
	queue *queue.Queue
}

func (p *program) openBackends(ctx context.Context, databaseURL, queueURL string, migrate bool) (*backends, error) {
	s, err := store.Open(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	if migrate {
		if err := s.Migrate(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	q, err := queue.Open(ctx, queueURL)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.OnEvents(func(events []types.Event) {
		// Lossy by design: who listens falls back on the store.
		if err := q.Publish(context.WithoutCancel(ctx), events); err != nil {
			p.log.Debug("events were not published", "error", err)
		}
	})
	return &backends{store: s, queue: q}, nil
}

func (b *backends) close() { _ = errors.Join(b.queue.Close(), b.store.Close()) }

// listen opens an address, or says who may have it.
func listen(field, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, &types.Error{Kind: types.KindConflict, Field: field, Value: address, Message: "the port is in use by another program",
			Remedy: "end that program (ss -ltnp shows it), or choose another port with --listen"}
	}
	if err != nil {
		return nil, types.InvalidField(field, address, "cannot be listened on: "+err.Error(), "choose an address of this machine")
	}
	return l, nil
}

// serve answers HTTP until ctx ends, then lets running requests end for a moment.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	const patience = 3 * time.Second
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if server.Shutdown(last) != nil {
		_ = server.Close()
	}
	return nil
}

// runGateway serves the API and dispatches, until ctx ends.
func (p *program) runGateway(ctx context.Context, l net.Listener, b *backends) error {
	d := dispatch.New(dispatch.Config{Store: b.store, Queue: b.queue, Log: p.log})
	g := api.New(api.Config{
		Store: b.store, Queue: b.queue, Kick: d.Kick, ClusterToken: p.settings.ClusterToken, Version: version,
		Local: loopback(p.settings.Listen), Hosts: p.settings.Hosts, Log: p.log,
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.Run(ctx) })
	group.Go(func() error { return g.Run(ctx) })
	group.Go(func() error { return serve(ctx, l, g) })
	return ignoreEnd(group.Wait())
}

func ignoreEnd(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// host is what this machine has to run VMs with.
type host struct {
	network  *network.Manager
	images   *image.Store
	runtimes []runtime.Runtime
}

// openHost prepares this machine.
func (p *program) openHost(ctx context.Context) (*host, error) {
	s := p.settings
	if os.Geteuid() != 0 {
		return nil, types.Errorf(types.KindUnsupported, "running VMs needs root, for namespaces, mounts and cgroups").
			WithRemedy("run it with sudo; aetherium gateway, aetherium migrate and aether-cli work without")
	}
	agent, err := agentbin.Extract(filepath.Join(s.DataDir, "agent"))
	if err != nil {
		return nil, err
	}
	images, err := image.Open(filepath.Join(s.DataDir, "images"), image.Options{Log: p.log})
	if err != nil {
		return nil, err
	}
	subnet, err := netip.ParsePrefix(s.Subnet)
	if err != nil {
		return nil, types.InvalidField("subnet", s.Subnet, "is no network", "use one like 10.88.0.0/16")
	}
	net, err := network.Open(ctx, network.Config{Bridge: s.Bridge, Subnet: subnet, StateDir: filepath.Join(s.DataDir, "network"), Log: p.log})
	if err != nil {
		return nil, err
	}
	rt, err := gvisor.New(gvisor.Config{DataDir: filepath.Join(s.DataDir, "gvisor"), RunscPath: s.runsc(), AgentPath: agent, Network: net, Log: p.log})
	if err != nil {
		return nil, err
	}
	return &host{network: net, images: images, runtimes: []runtime.Runtime{rt}}, nil
}

// runsc finds the program: named, beside this one, or on PATH. What is not there
// the runtime's probe tells of.
func (s settings) runsc() string {
	if s.Runsc != "" {
		return s.Runsc
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "runsc")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	if found, err := exec.LookPath("runsc"); err == nil {
		return found
	}
	return "/usr/local/bin/runsc"
}

// lockDataDir makes sure that one process at a time owns a data folder. The lock
// ends with the process, however it ends.
func lockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, types.InvalidField("data_dir", dir, "cannot be made: "+err.Error(), "choose a folder that this user can write to")
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, types.InvalidField("data_dir", dir, "cannot be written to: "+err.Error(), "choose a folder that this user can write to")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &types.Error{Kind: types.KindConflict, Field: "data_dir", Value: dir, Message: "another aetherium is using this folder",
			Remedy: "end that one first, or give this one a folder, bridge and subnet of its own"}
	}
	return f, nil
}

// runWorker runs VMs and serves their direct face on a listener, until ctx ends.
func (p *program) runWorker(ctx context.Context, b *backends, h *host, l net.Listener, address, token string) error {
	w, err := worker.New(worker.Config{
		Store: b.store, Queue: b.queue, Runtimes: h.runtimes, Images: h.images, DataDir: p.settings.DataDir, Address: address,
		Labels: p.settings.Labels, Version: version, CPUOvercommit: p.settings.CPUOvercommit, Slots: p.settings.Slots, Log: p.log,
	})
	if err != nil {
		return err
	}
	face := direct.New(direct.Config{VMs: w, Store: b.store, Token: token, Log: p.log})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.Run(ctx) })
	group.Go(func() error { return serve(ctx, l, face) })
	return ignoreEnd(group.Wait())
}
