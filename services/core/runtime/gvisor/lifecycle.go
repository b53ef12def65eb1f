package gvisor

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// existing answers a VM that is whole.
func (r *Runtime) existing(id string) (vm, record, error) {
	v, err := r.vm(id)
	if err != nil {
		return v, record{}, err
	}
	rec, err := v.load()
	return v, rec, err
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) (runtime.Instance, error) {
	defer r.turns.take(id)()
	v, rec, err := r.existing(id)
	if err != nil {
		return runtime.Instance{}, err
	}
	inst := r.look(v)
	if inst.State == runtime.StateRunning || inst.State == runtime.StatePaused {
		return inst, nil
	}
	if err := r.restart(ctx, v, &rec); err != nil {
		if stopErr := r.halt(v); stopErr != nil {
			r.Log.Error("could not take back a failed start", "vm", id, "error", stopErr)
		}
		return runtime.Instance{}, failure("start VM "+id, err)
	}
	return runtime.Instance{ID: id, State: runtime.StateRunning, IP: rec.IP}, nil
}

// restart boots a VM anew from its disk.
func (r *Runtime) restart(ctx context.Context, v vm, rec *record) error {
	if err := r.halt(v); err != nil { // what a crash left of the boot before
		return err
	}
	if err := r.step(ctx, "check", func() error { return checkDisk(ctx, v.path(diskFile)) }); err != nil {
		return err
	}
	return r.boot(ctx, v, rec)
}

// halt ends the sandbox and gives back all but the disk and the address.
func (r *Runtime) halt(v vm) error {
	if err := r.endSandbox(v); err != nil {
		return err
	}
	return unmount(v)
}

// Stop implements runtime.Runtime.
func (r *Runtime) Stop(ctx context.Context, id string) error {
	defer r.turns.take(id)()
	v, rec, err := r.existing(id)
	if err != nil {
		return err
	}
	if rec.Stopped {
		return nil
	}
	if err := r.halt(v); err != nil {
		return failure("stop VM "+id, err)
	}
	rec.Stopped = true
	return v.save(rec)
}

// Pause implements runtime.Runtime.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	return r.freeze(ctx, id, runtime.StateRunning, runtime.StatePaused, "pause")
}

// Resume implements runtime.Runtime.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	return r.freeze(ctx, id, runtime.StatePaused, runtime.StateRunning, "resume")
}

func (r *Runtime) freeze(ctx context.Context, id string, from, to runtime.State, verb string) error {
	defer r.turns.take(id)()
	v, _, err := r.existing(id)
	if err != nil {
		return err
	}
	switch state := r.look(v).State; state {
	case to:
		return nil
	case from:
	default:
		return types.Errorf(types.KindConflict, "cannot %s VM %s: it is %s", verb, id, state)
	}
	// runsc must not die between the guest's freezing and its own note of it.
	return failure(verb+" VM "+id, r.runsc.run(context.WithoutCancel(ctx), verb, id))
}

// Delete implements runtime.Runtime.
func (r *Runtime) Delete(ctx context.Context, id string) error {
	v, err := r.vm(id)
	if err != nil {
		return err
	}
	defer r.turns.take(id)()
	return r.free(ctx, v)
}

// Stats implements runtime.Runtime.
func (r *Runtime) Stats(_ context.Context, id string) (runtime.Stats, error) {
	v, _, err := r.existing(id)
	if err != nil {
		return runtime.Stats{}, err
	}
	c := r.cgroupOf(v)
	s := runtime.Stats{MemoryBytes: c.memory(), CPUTime: c.cpu(), Processes: len(c.pids())}
	var st unix.Stat_t
	if unix.Stat(v.path(diskFile), &st) == nil {
		const blockSize = 512 // of st_blocks, whatever the file system's: stat(2)
		s.DiskBytes = uint64(st.Blocks) * blockSize
	}
	return s, nil
}
