package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

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
	defer r.turns.take(v.id)()
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
	_, typed := errors.AsType[*types.Error](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return types.Errorf(types.KindCanceled, "%s: %w", doing, err)
	case errors.Is(err, context.DeadlineExceeded):
		return types.Errorf(types.KindTimeout, "%s: %w", doing, err)
	case typed:
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return types.Errorf(types.KindExhausted, "%s: %w", doing, err).WithRemedy("free space on the worker's disk, or delete VMs")
	case errors.Is(err, unix.ENOMEM):
		return types.Errorf(types.KindExhausted, "%s: %w", doing, err).WithRemedy("free memory on the worker, or delete VMs")
	}
	return types.Errorf(types.KindInternal, "%s: %w", doing, err)
}

// build makes a VM. Its record comes last: a folder without one is half made.
func (r *Runtime) build(ctx context.Context, v vm, spec runtime.Spec) (runtime.Instance, error) {
	if err := r.step(ctx, "folder", func() error { return os.MkdirAll(v.dir, 0o700) }); err != nil {
		return runtime.Instance{}, err
	}
	rec := record{Spec: spec}
	if err := r.boot(ctx, v, &rec); err != nil {
		return runtime.Instance{}, err
	}
	return runtime.Instance{ID: v.id, State: runtime.StateRunning, IP: rec.IP}, nil
}

// boot gives a VM that is not running its network, mounts and sandbox.
func (r *Runtime) boot(ctx context.Context, v vm, rec *record) error {
	e, err := r.prepare(ctx, v, rec.Spec)
	if err != nil {
		return err
	}
	rec.IP, rec.Stopped = "", false
	if e.IP.IsValid() {
		rec.IP = e.IP.String()
	}
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"etc", func() error { return writeEtc(v.path("rootfs"), rec.Spec, e) }},
		{"bundle", func() error { return r.writeBundle(v, rec.Spec, e) }},
		{"sandbox", func() error { return r.launch(ctx, v, rec.Spec) }},
		{"record", func() error { return v.save(*rec) }},
	} {
		if err := r.step(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	return nil
}

// step does one step of making a VM. Each leaves what it makes where free finds
// it, finished or not, so that one way back serves for all of them.
func (r *Runtime) step(ctx context.Context, name string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := do()
	if err == nil && r.after != nil {
		err = r.after(name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// prepare makes the VM's network and its disk at the same time.
func (r *Runtime) prepare(ctx context.Context, v vm, spec runtime.Spec) (network.Endpoint, error) {
	var e network.Endpoint
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return r.step(ctx, "network", func() (err error) {
			e, err = r.Network.Setup(ctx, v.id, spec.Network)
			return err
		})
	})
	g.Go(func() error {
		if err := r.step(ctx, "disk", func() error { return r.makeDisk(ctx, v, spec.DiskMiB) }); err != nil {
			return err
		}
		if err := r.step(ctx, "mount", func() error { return mount(v, spec.Image) }); err != nil {
			return err
		}
		return r.step(ctx, "agent", func() error { return linkAgent(r.AgentPath, v.path("bin")) })
	})
	return e, g.Wait()
}

// linkAgent shows the agent in a folder of the VM's, which the guest gets to read
// only. A hard link costs nothing; across file systems it is a copy. An agent of
// an older worker's is replaced.
func linkAgent(agent, dir string) error {
	to := filepath.Join(dir, filepath.Base(guestAgent))
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
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

// launch starts the sandbox over what was made for it.
func (r *Runtime) launch(ctx context.Context, v vm, spec runtime.Spec) error {
	_ = os.Remove(filepath.Join(v.path("sock"), socketName)) // of the boot before
	if err := r.runsc.start(ctx, v); err != nil {
		return err
	}
	return r.cgroupOf(v).limitMemory(int64(spec.MemoryMiB+overheadMiB) << 20)
}

// free takes away all that a VM holds, whatever of it there is.
func (r *Runtime) free(ctx context.Context, v vm) error {
	err := r.endSandbox(v)
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

// endSandbox ends the sandbox and removes runsc's own traces of it. That is what
// "runsc delete" does too, at the price of another start of that large program.
func (r *Runtime) endSandbox(v vm) error {
	if err := r.sandbox(v).kill(); err != nil {
		return err
	}
	if err := r.cgroupOf(v).remove(); err != nil {
		return err
	}
	return r.runsc.forget(v.id)
}
