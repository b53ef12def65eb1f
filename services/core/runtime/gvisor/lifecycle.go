package gvisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

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
	defer r.lock(id)()
	v, rec, err := r.existing(id)
	if err != nil {
		return runtime.Instance{}, err
	}
	inst := r.look(v)
	if inst.State == runtime.StateRunning || inst.State == runtime.StatePaused {
		return inst, nil
	}
	r.ends.Delete(id)
	if err := r.boot(ctx, v, &rec); err != nil {
		if stopErr := r.halt(context.WithoutCancel(ctx), v); stopErr != nil {
			r.Log.Error("could not take back a failed start", "vm", id, "error", stopErr)
		}
		return runtime.Instance{}, failure("start VM "+id, err)
	}
	return runtime.Instance{ID: id, State: runtime.StateRunning, IP: rec.IP}, nil
}

func (r *Runtime) boot(ctx context.Context, v vm, rec *record) error {
	if err := r.halt(ctx, v); err != nil { // what a crash left of the boot before
		return err
	}
	// After a crash of the host the disk may need it; else it looks for 10 ms.
	if out, err := exec.CommandContext(ctx, "e2fsck", "-p", v.path("disk.img")).CombinedOutput(); err != nil {
		const corrected = 1 // exit codes of e2fsck(8): 1 mended, more is worse
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() > corrected {
			return fmt.Errorf("its disk is damaged: %w: %s", err, out)
		}
	}
	e, err := r.prepare(ctx, v, rec.Spec)
	if err != nil {
		return err
	}
	if e.IP.IsValid() {
		rec.IP = e.IP.String()
	}
	if err := r.launch(ctx, v, rec.Spec, e); err != nil {
		return err
	}
	rec.Stopped = false
	return v.save(*rec)
}

// halt ends the sandbox and gives back all but the disk and the address.
func (r *Runtime) halt(ctx context.Context, v vm) error {
	if err := r.endSandbox(ctx, v); err != nil {
		return err
	}
	return unmount(v)
}

// Stop implements runtime.Runtime.
func (r *Runtime) Stop(ctx context.Context, id string) error {
	defer r.lock(id)()
	v, rec, err := r.existing(id)
	if err != nil {
		return err
	}
	if rec.Stopped {
		return nil
	}
	r.ends.Store(id, "stopped")
	if err := r.halt(ctx, v); err != nil {
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
	defer r.lock(id)()
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
	if err := r.runsc.run(ctx, verb, id); err != nil {
		return failure(verb+" VM "+id, err)
	}
	if to == runtime.StatePaused {
		return os.WriteFile(v.path("paused"), nil, 0o600)
	}
	return os.Remove(v.path("paused"))
}

// Delete implements runtime.Runtime.
func (r *Runtime) Delete(ctx context.Context, id string) error {
	v, err := r.vm(id)
	if err != nil {
		return err
	}
	defer r.lock(id)()
	r.ends.Store(id, "deleted")
	if err := r.free(ctx, v); err != nil {
		return err
	}
	r.ends.Delete(id)
	r.locks.Delete(id)
	return nil
}

// Dial implements runtime.Runtime. The socket is in a folder that the guest can
// write to, so what is there may be a link to a socket of the host's: it is
// opened without following any, looked at, and connected to by that very
// descriptor.
func (r *Runtime) Dial(ctx context.Context, id string) (net.Conn, error) {
	v, err := r.vm(id)
	if err != nil {
		return nil, err
	}
	dir, err := unix.Open(v.path("sock"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, types.Errorf(types.KindNotFound, "VM %s has no agent's socket: %w", id, err)
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat(dir, socketName, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, types.Errorf(types.KindUnavailable, "the agent of VM %s does not listen: %w", id, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, types.Errorf(types.KindUnavailable, "what is in the place of the agent's socket of VM %s is none", id)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, types.Errorf(types.KindUnavailable, "the agent of VM %s does not answer: %w", id, err)
	}
	return conn, nil
}

// Wait implements runtime.Runtime.
func (r *Runtime) Wait(ctx context.Context, id string) (runtime.Exit, error) {
	v, _, err := r.existing(id)
	if err != nil {
		return runtime.Exit{}, err
	}
	if fd, err := r.sandbox(v).open(); err == nil {
		if err := waitFor(ctx, fd); err != nil { // it closes fd
			return runtime.Exit{}, err
		}
	}
	exit := runtime.Exit{At: time.Now().UTC()}
	switch why, wanted := r.ends.Load(id); {
	case wanted:
		exit.Reason = "the VM was " + why.(string)
	case r.cgroupOf(v).oomKills() > 0:
		exit.Kind = types.KindOutOfMemory
		exit.Reason = "the VM used more than its memory limit and was ended by the kernel"
	default:
		exit.Kind, exit.Reason = types.KindInternal, "the sandbox ended unexpectedly"
	}
	return exit, nil
}

// waitFor waits for a process's end or ctx's, without holding a thread.
func waitFor(ctx context.Context, pidfd int) error {
	f := os.NewFile(uintptr(pidfd), "pidfd")
	defer func() { _ = f.Close() }()
	conn, err := f.SyscallConn()
	if err != nil {
		return types.Errorf(types.KindInternal, "wait for a sandbox: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool { return dead(int(fd), 0) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return types.Errorf(types.KindInternal, "wait for a sandbox: %w", err)
}

// Stats implements runtime.Runtime.
func (r *Runtime) Stats(_ context.Context, id string) (runtime.Stats, error) {
	v, _, err := r.existing(id)
	if err != nil {
		return runtime.Stats{}, err
	}
	c := r.cgroupOf(v)
	s := runtime.Stats{MemoryBytes: c.memory(), CPUTime: c.cpu(), Processes: c.processes()}
	var st unix.Stat_t
	if unix.Stat(v.path("disk.img"), &st) == nil {
		const blockSize = 512 // of st_blocks, whatever the file system's: stat(2)
		s.DiskBytes = uint64(st.Blocks) * blockSize
	}
	return s, nil
}
