package gvisor

import (
	"context"
	"os"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// Wait implements runtime.Runtime.
func (r *Runtime) Wait(ctx context.Context, id string) (runtime.Exit, error) {
	v, _, err := r.existing(id)
	if err != nil {
		return runtime.Exit{}, err
	}
	s := r.sandbox(v)
	if fd, err := s.open(s.pid); err == nil {
		f := os.NewFile(uintptr(fd), "pidfd")
		defer func() { _ = f.Close() }()
		if err := waitFor(ctx, f); err != nil {
			return runtime.Exit{}, failure("wait for VM "+id, err)
		}
		collect(fd)
	}
	// A Stop or a Delete that ended it keeps its turn until the record says so.
	defer r.turns.take(id)()
	return r.exitOf(v, s)
}

// exitOf tells why a sandbox that was seen has ended.
func (r *Runtime) exitOf(v vm, s sandbox) (runtime.Exit, error) {
	exit := runtime.Exit{At: time.Now().UTC()}
	rec, err := v.load()
	switch now := r.sandbox(v); {
	case types.KindOf(err) == types.KindNotFound:
		exit.Reason = "the VM was deleted"
	case err != nil:
		return exit, err
	case rec.Stopped:
		exit.Reason = "the VM was stopped"
	case now.pid != s.pid:
		exit.Reason = "the VM was stopped and started again"
	case s.cgroup.oomKills() > 0:
		exit.Kind = types.KindOutOfMemory
		exit.Reason = "the VM used more than its memory limit and was ended by the kernel"
	default:
		exit.Kind, exit.Reason = types.KindInternal, "the sandbox ended unexpectedly"
		if said := tail(v.path(panicLog)); said != "" {
			r.Log.Warn("a sandbox broke", "vm", v.id, "said", said)
		}
	}
	return exit, nil
}

// waitFor waits for a process's end or ctx's, without holding a thread.
func waitFor(ctx context.Context, pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool { return dead(int(fd), 0) })
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
