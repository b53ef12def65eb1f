package agent

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reaper collects the orphans that a first process inherits, and leaves to every
// exec the child that is its own.
type reaper struct {
	mu   sync.Mutex // held from fork to registration, so that no own child is taken for an orphan
	own  map[int]bool
	poke chan struct{}
}

func newReaper() *reaper { return &reaper{own: make(map[int]bool), poke: make(chan struct{}, 1)} }

// fork starts a process of our own.
func (r *reaper) fork(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err == nil {
		r.own[pid] = true
	}
	return pid, err
}

// wait blocks until an own process has ended and collects it.
func (r *reaper) wait(pid int) syscall.WaitStatus {
	// First only look: between the collection and the removal from own, the
	// number could be given to an orphan, or a kill could hit a stranger.
	waitid(pid, unix.P_PID, unix.WEXITED|unix.WNOWAIT)
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, 0, nil)
		if err != syscall.EINTR {
			break
		}
	}
	delete(r.own, pid)
	select {
	case r.poke <- struct{}{}:
	default:
	}
	return status
}

// kill signals an own process that has not been collected, or its group.
func (r *reaper) kill(pid int, group bool, sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.own[pid] {
		return syscall.ESRCH
	}
	if group {
		return syscall.Kill(-pid, sig)
	}
	return syscall.Kill(pid, sig)
}

// run collects orphans until ctx ends, if they come to this process at all.
func (r *reaper) run(ctx context.Context) {
	if os.Getpid() != 1 && unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != nil {
		return
	}
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	for {
		r.collect()
		select {
		case <-ctx.Done():
			return
		case <-died:
		case <-r.poke:
		}
	}
}

func (r *reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		pid := waitid(0, unix.P_ALL, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG)
		if pid <= 0 || r.own[pid] {
			// An own child that waits in front hides those behind it; its collection
			// pokes us to look again.
			return
		}
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}

// waitid answers the id of a child that has ended; 0 if none has. See waitid(2).
func waitid(id, kind, options int) int {
	// siginfo_t is 128 bytes; on 64-bit Linux si_signo, si_errno, si_code and
	// padding come first, then si_pid.
	var info [32]int32
	for {
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, uintptr(kind), uintptr(id), uintptr(unsafe.Pointer(&info)), uintptr(options), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0
		}
		return int(info[4])
	}
}
