package agent

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/aetherium/aetherium/libs/agentapi"
)

const (
	notFoundCode      = 127 // as shells have it
	notExecutableCode = 126
	signalBase        = 128

	// After a process has ended, what a grandchild still writes is collected while
	// it keeps coming within idle, for lingerMost at most.
	lingerIdle = 100 * time.Millisecond
	lingerMost = time.Second
)

// process is an exec: a command, its spool, its end.
type process struct {
	id    string
	spool *spool
	ended chan struct{} // closed once status is final

	mu     sync.Mutex
	status *agentapi.ExecStatus
	cause  agentapi.EndReason // why we killed it, if we did
	why    string
	stdin  *stdin
	tty    *os.File
	pid    int
	stop   *time.Timer
}

// snapshot answers the status as it is now.
func (p *process) snapshot() *agentapi.ExecStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := &agentapi.ExecStatus{
		ExecId: p.id, State: p.status.GetState(), Pid: int64(p.pid), ExitCode: p.status.GetExitCode(), Signal: p.status.GetSignal(),
		EndReason: p.status.GetEndReason(), Message: p.status.GetMessage(), OutputLeftOpen: p.status.GetOutputLeftOpen(),
		StartedAt: p.status.GetStartedAt(), EndedAt: p.status.GetEndedAt(),
	}
	if p.stdin != nil {
		st.StdinOffset = p.stdin.accepted()
	}
	p.spool.mu.Lock()
	defer p.spool.mu.Unlock()
	st.StdoutBytes = p.spool.streams[agentapi.Stream_STREAM_STDOUT]
	st.StderrBytes = p.spool.streams[agentapi.Stream_STREAM_STDERR]
	st.OutputTruncated = p.spool.truncated
	return st
}

// refused is a process that never was: its exec ends at once.
func (p *process) refused(code int32, reason agentapi.EndReason, why string) {
	p.mu.Lock()
	now := timestamppb.Now()
	p.status.State, p.status.ExitCode, p.status.EndReason, p.status.Message = agentapi.ExecState_EXEC_STATE_EXITED, code, reason, why
	p.status.StartedAt, p.status.EndedAt = now, now
	p.mu.Unlock()
	p.spool.close()
	close(p.ended)
}

// pipe is an output of a process that is being read.
type pipe struct {
	file   *os.File
	stream agentapi.Stream
	exited chan struct{} // closed when the process has ended
	owed   int           // bytes that were in the pipe then: all of them are the process's own
}

// drain copies a pipe into the spool until its end or, once the process is gone,
// until nothing more of it comes. It reports whether somebody still held it.
func (r *pipe) drain(s *spool) (leftOpen bool) {
	buf := make([]byte, agentapi.MaxChunk)
	var last time.Time
	for {
		n, err := r.file.Read(buf)
		if n > 0 {
			s.write(r.stream, buf[:n])
			r.owed -= n
		}
		select {
		case <-r.exited:
			if last.IsZero() {
				last = time.Now().Add(lingerMost)
			}
			if r.owed <= 0 && time.Now().After(last) {
				return true
			}
			_ = r.file.SetReadDeadline(time.Now().Add(lingerIdle))
		default:
		}
		switch {
		case err == nil:
		case os.IsTimeout(err):
			return true
		default: // end of file; of a terminal, EIO
			return false
		}
	}
}

// run follows a started process to its end.
func (p *process) run(r *reaper, pipes []*pipe) {
	var reading sync.WaitGroup
	var mu sync.Mutex
	leftOpen := false
	for _, pipe := range pipes {
		reading.Go(func() {
			open := pipe.drain(p.spool)
			mu.Lock()
			leftOpen = leftOpen || open
			mu.Unlock()
			_ = pipe.file.Close()
		})
	}
	status := r.wait(p.pid)
	ended := timestamppb.Now()
	if p.stop != nil {
		p.stop.Stop()
	}
	for _, pipe := range pipes {
		pipe.owed = buffered(pipe.file)
		close(pipe.exited)
		// Whoever is in Read now waits at most so long more.
		_ = pipe.file.SetReadDeadline(time.Now().Add(lingerIdle))
	}
	p.stdin.close()
	reading.Wait()

	p.mu.Lock()
	p.status.State, p.status.EndedAt, p.status.OutputLeftOpen = agentapi.ExecState_EXEC_STATE_EXITED, ended, leftOpen
	p.status.EndReason, p.status.Message = p.cause, p.why
	if status.Signaled() {
		p.status.Signal = int32(status.Signal())
		p.status.ExitCode = signalBase + p.status.Signal
	} else {
		p.status.ExitCode = int32(status.ExitStatus())
	}
	p.mu.Unlock()
	p.spool.close()
	close(p.ended)
}

// buffered is how many bytes wait in a pipe: ioctl_tty(2), FIONREAD.
func buffered(f *os.File) int {
	n := 0
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// end kills a process with all of its group and session, for a reason.
func (p *process) end(r *reaper, reason agentapi.EndReason, why string) {
	p.mu.Lock()
	if p.cause == agentapi.EndReason_END_REASON_UNSPECIFIED {
		p.cause, p.why = reason, why
	}
	pid := p.pid
	p.mu.Unlock()
	if r.kill(pid, true, syscall.SIGKILL) == nil {
		killSession(pid, syscall.SIGKILL)
	}
}
