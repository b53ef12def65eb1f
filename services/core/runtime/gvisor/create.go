package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/network"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// Create implements runtime.Runtime.
func (r *Runtime) Create(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	v, err := r.vm(spec.ID)
	if err != nil {
		return runtime.Instance{}, err
	}
	defer r.lock(v.id)()
	switch inst := r.look(v); inst.State {
	case runtime.StateRunning, runtime.StatePaused:
		return inst, nil
	case runtime.StateStopped:
		return inst, types.Errorf(types.KindConflict, "VM %s is there already, and stopped", v.id)
	case runtime.StateBroken:
		if err := r.free(ctx, v); err != nil {
			return runtime.Instance{}, err
		}
	}
	inst, err := r.build(ctx, v, spec)
	if err != nil {
		if freeErr := r.free(context.WithoutCancel(ctx), v); freeErr != nil {
			r.Log.Error("could not free what a failed create left", "vm", v.id, "error", freeErr)
		}
		return runtime.Instance{}, failure("create VM "+v.id, err)
	}
	return inst, nil
}

// failure gives an error of the host's its kind.
func failure(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*types.Error](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return types.Errorf(types.KindInternal, "%s: %w", doing, err)
}

func (r *Runtime) build(ctx context.Context, v vm, spec runtime.Spec) (runtime.Instance, error) {
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return runtime.Instance{}, err
	}
	rec := record{Spec: spec}
	e, err := r.prepare(ctx, v, spec)
	if err != nil {
		return runtime.Instance{}, err
	}
	if e.IP.IsValid() {
		rec.IP = e.IP.String()
	}
	if err := r.launch(ctx, v, spec, e); err != nil {
		return runtime.Instance{}, err
	}
	if err := v.save(rec); err != nil {
		return runtime.Instance{}, err
	}
	return runtime.Instance{ID: v.id, State: runtime.StateRunning, IP: rec.IP}, nil
}

// prepare makes the VM's network and its disk at the same time.
func (r *Runtime) prepare(ctx context.Context, v vm, spec runtime.Spec) (network.Endpoint, error) {
	var e network.Endpoint
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		e, err = r.Network.Setup(ctx, v.id, spec.Network)
		return err
	})
	g.Go(func() error {
		if err := r.makeDisk(ctx, v, spec.DiskMiB); err != nil {
			return err
		}
		if err := r.mount(v, spec.Image); err != nil {
			return err
		}
		return linkAgent(r.AgentPath, v.path("bin"))
	})
	return e, g.Wait()
}

// linkAgent shows the agent in a folder of the VM's, which the guest gets to read
// only. A hard link costs nothing; across file systems it is a copy.
func linkAgent(agent, dir string) error {
	to := filepath.Join(dir, filepath.Base(guestAgent))
	if fileExists(to) {
		return nil
	}
	if os.Link(agent, to) == nil {
		return nil
	}
	b, err := os.ReadFile(agent)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o555)
}

// launch starts the sandbox over what prepare made.
func (r *Runtime) launch(ctx context.Context, v vm, spec runtime.Spec, e network.Endpoint) error {
	if err := writeEtc(v.path("disk/upper"), spec, e); err != nil {
		return err
	}
	if err := r.writeBundle(v, spec, e); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(v.path("sock"), socketName)) // of the boot before
	_ = os.Remove(v.path("paused"))
	return r.runsc.run(ctx, "run", "--detach", "--bundle", v.dir, v.id)
}

// free takes away all that a VM holds, whatever of it there is.
func (r *Runtime) free(ctx context.Context, v vm) error {
	err := r.endSandbox(ctx, v)
	if err == nil {
		err = unmount(v)
	}
	if err == nil {
		err = r.Network.Teardown(ctx, v.id)
	}
	if err == nil {
		err = os.RemoveAll(v.dir)
	}
	return failure("free VM "+v.id, err)
}

// endSandbox ends the sandbox and removes runsc's own traces of it.
func (r *Runtime) endSandbox(ctx context.Context, v vm) error {
	if err := r.sandbox(v).kill(); err != nil {
		return err
	}
	if fileExists(r.stateFile(v)) {
		if err := r.runsc.run(ctx, "delete", "--force", v.id); err != nil && fileExists(r.stateFile(v)) {
			return err
		}
	}
	return r.cgroupOf(v).remove()
}
