package gvisor

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the one that collects the sandboxes it starts:
// runsc leaves them behind as orphans, and until someone collects a dead one
// runsc believes it to be alive. Sandboxes that an earlier process started are
// the init process's to collect.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// sandbox is what runsc knows of a VM. The numbers are as old as its file: after
// a crash of the host they may be other programs', so a process is the VM's only
// if it is in the VM's cgroup too.
type sandbox struct {
	cgroup cgroup
	pid    int // the sandbox; 0 if there is none
	gofer  int // its file server
	paused bool
}

// sandbox reads runsc's own state file.
func (r *Runtime) sandbox(v vm) sandbox {
	s := sandbox{cgroup: r.cgroupOf(v)}
	b, err := os.ReadFile(r.stateFile(v))
	if err != nil {
		return s
	}
	var state struct {
		Status  string `json:"status"`
		Gofer   int    `json:"goferPid"`
		Sandbox struct {
			PID int `json:"pid"`
		} `json:"sandbox"`
	}
	if json.Unmarshal(b, &state) != nil {
		return s
	}
	s.pid, s.gofer, s.paused = state.Sandbox.PID, state.Gofer, state.Status == "paused"
	return s
}

// stateFile is where runsc keeps a container: <root>/<sandbox>_sandbox:<id>.state.
func (r *Runtime) stateFile(v vm) string {
	return filepath.Join(r.runsc.root, v.id+"_sandbox:"+v.id+".state")
}

// alive reports whether the sandbox runs; a dead one that nobody has collected
// does not.
func (s sandbox) alive() bool {
	fd, err := s.open(s.pid)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return !dead(fd, 0)
}

// open answers a pidfd of one of the VM's processes: pidfd_open(2).
func (s sandbox) open(pid int) (int, error) {
	if pid <= 0 {
		return -1, os.ErrNotExist
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	// Looked at once the descriptor holds the process: its number cannot become
	// another's in between.
	if !s.cgroup.holds(pid) {
		_ = unix.Close(fd)
		return -1, os.ErrNotExist
	}
	return fd, nil
}

// dead waits for a process's end, and reports whether it came in time.
func dead(pidfd int, wait time.Duration) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(wait.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n > 0
	}
}

// collect takes a dead process's exit, if it is a child of this process.
func collect(pidfd int) {
	_ = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WNOHANG, nil)
}

// kill ends all of the VM's processes at once and waits for that: those that
// runsc knows, and whatever else is in the cgroup, as of a runsc that was killed
// before it wrote down what it had started.
func (s sandbox) kill() error {
	for _, pid := range []int{s.pid, s.gofer} {
		if err := s.killOne(pid); err != nil {
			return err
		}
	}
	// A process may start another before it dies, and is on the list until the
	// kernel has let it go.
	const rounds, between = 400, 5 * time.Millisecond
	for range rounds {
		pids := s.cgroup.pids()
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := s.killOne(pid); err != nil {
				return err
			}
		}
		time.Sleep(between)
	}
	return errors.New("its cgroup still has processes although all were killed")
}

func (s sandbox) killOne(pid int) error {
	const patience = 10 * time.Second
	fd, err := s.open(pid)
	if err != nil {
		return nil //nolint:nilerr // it is gone, or not the VM's
	}
	defer func() { _ = unix.Close(fd) }()
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	if !dead(fd, patience) {
		return errors.New("its process does not end although it was killed")
	}
	collect(fd)
	return nil
}
