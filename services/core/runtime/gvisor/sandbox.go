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

// sandbox is the processes of a VM on the host.
type sandbox struct {
	pid   int // the sandbox; 0 if there is none
	gofer int // its file server
}

// sandbox reads the processes from runsc's own state file.
func (r *Runtime) sandbox(v vm) sandbox {
	b, err := os.ReadFile(r.stateFile(v))
	if err != nil {
		return sandbox{}
	}
	var state struct {
		Gofer   int `json:"goferPid"`
		Sandbox struct {
			PID int `json:"pid"`
		} `json:"sandbox"`
	}
	if json.Unmarshal(b, &state) != nil {
		return sandbox{}
	}
	return sandbox{pid: state.Sandbox.PID, gofer: state.Gofer}
}

// stateFile is where runsc keeps a container: <root>/<sandbox>_sandbox:<id>.state.
func (r *Runtime) stateFile(v vm) string {
	return filepath.Join(r.runsc.root, v.id+"_sandbox:"+v.id+".state")
}

// alive reports whether the sandbox runs; a dead one that nobody has collected
// does not.
func (s sandbox) alive() bool {
	fd, err := s.open()
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return !dead(fd, 0)
}

// open answers a pidfd of the sandbox: pidfd_open(2).
func (s sandbox) open() (int, error) {
	if s.pid <= 0 {
		return -1, os.ErrNotExist
	}
	return unix.PidfdOpen(s.pid, unix.PIDFD_NONBLOCK)
}

// dead waits for a process's end, and reports whether it came in time; a
// negative time is for ever.
func dead(pidfd int, wait time.Duration) bool {
	ms := int(wait.Milliseconds())
	if wait < 0 {
		ms = -1
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, ms)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n > 0
	}
}

// kill ends the sandbox and its gofer at once, waits for that, and collects them
// if they are this process's.
func (s sandbox) kill() error {
	const patience = 10 * time.Second
	for _, pid := range []int{s.pid, s.gofer} {
		if pid <= 0 {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone
		}
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		ended := dead(fd, patience)
		_ = unix.Close(fd)
		if !ended {
			return errors.New("its process does not end although it was killed")
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
	return nil
}
