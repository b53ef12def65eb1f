package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/aetherium/aetherium/libs/agentapi"
)

const (
	defaultOutputLimit = 16 << 20
	maxExecs           = 4096
	basePath           = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// start runs an exec, or answers the one that has its id.
func (a *Agent) start(r *agentapi.StartRequest) (*process, error) {
	if r.GetExecId() == "" || r.GetCommand() == "" {
		return nil, fail(connect.CodeInvalidArgument, "an exec needs an id and a command")
	}
	limit := r.GetOutputLimitBytes()
	if limit <= 0 {
		limit = defaultOutputLimit
	}
	a.mu.Lock()
	if p := a.execs[r.GetExecId()]; p != nil {
		a.mu.Unlock()
		return p, nil
	}
	if len(a.execs) >= maxExecs {
		a.mu.Unlock()
		return nil, fail(connect.CodeResourceExhausted, "the agent keeps %d execs already", maxExecs)
	}
	p := &process{
		id: r.GetExecId(), spool: newSpool(limit, a.budget), ended: make(chan struct{}),
		status: &agentapi.ExecStatus{State: agentapi.ExecState_EXEC_STATE_RUNNING, StartedAt: timestamppb.Now()},
	}
	// Held until the process runs, so that who asks a second time finds it so.
	p.mu.Lock()
	a.execs[p.id] = p
	hello := a.hello
	close(a.watch)
	a.watch = make(chan struct{})
	a.mu.Unlock()

	if err := a.launch(p, r, hello); err != nil {
		p.mu.Unlock()
		p.refused(err.code, err.reason, err.why)
		return p, nil
	}
	p.mu.Unlock()
	return p, nil
}

// refusal is why a process could not be started.
type refusal struct {
	code   int32
	reason agentapi.EndReason
	why    string
}

func cannot(what string, err error) *refusal {
	return &refusal{notExecutableCode, agentapi.EndReason_END_REASON_START_FAILED, what + ": " + err.Error()}
}

// launch forks the process and begins to follow it. p is locked.
func (a *Agent) launch(p *process, r *agentapi.StartRequest, hello *agentapi.HandshakeRequest) *refusal {
	who, err := lookupUser(r.GetUser())
	if err != nil {
		return cannot("user "+r.GetUser(), err)
	}
	env := environment(hello.GetEnv(), r.GetEnv(), who, r.GetTty() != nil)
	cwd := workingDir(r.GetCwd(), hello.GetCwd(), who)
	path, refused := findProgram(r.GetCommand(), env, cwd)
	if refused != nil {
		return refused
	}
	streams, err := openStreams(r)
	if err != nil {
		return cannot("make its pipes", err)
	}
	defer streams.closeChild()
	attr := &syscall.ProcAttr{
		Dir: cwd, Env: env.list(), Files: streams.child(),
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: streams.tty != nil, Ctty: 0, Credential: who.credential()},
	}
	pid, err := a.reaper.fork(path, append([]string{r.GetCommand()}, r.GetArgs()...), attr)
	if err != nil {
		streams.closeParent()
		return startRefusal(r.GetCommand(), path, cwd, err)
	}
	p.pid, p.tty, p.stdin = pid, streams.tty, streams.in
	p.status.StartedAt = timestamppb.Now()
	if d := r.GetTimeout().AsDuration(); d > 0 {
		p.stop = time.AfterFunc(d, func() {
			p.end(a.reaper, agentapi.EndReason_END_REASON_TIMEOUT, "ran longer than its time-out of "+d.String())
		})
	}
	if p.stdin != nil {
		p.stdin.begin(r.GetStdin(), !r.GetStdinOpen())
	}
	go p.run(a.reaper, streams.outputs())
	return nil
}

// startRefusal tells apart why fork or exec failed.
func startRefusal(command, path, cwd string, err error) *refusal {
	if info, statErr := os.Stat(cwd); statErr != nil || !info.IsDir() {
		return &refusal{notExecutableCode, agentapi.EndReason_END_REASON_START_FAILED, "working folder " + cwd + " is not there"}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		// The file is there: what it names as its interpreter is not.
		return &refusal{notFoundCode, agentapi.EndReason_END_REASON_NOT_FOUND, command + ": its interpreter is not there (" + path + ")"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.EPERM):
		return &refusal{notExecutableCode, agentapi.EndReason_END_REASON_NOT_EXECUTABLE, command + ": cannot be executed: " + err.Error()}
	}
	return cannot("start "+command, err)
}

// findProgram looks a command up as execvp(3) does, in the PATH that the process
// itself will have.
func findProgram(command string, env variables, cwd string) (string, *refusal) {
	if strings.Contains(command, "/") {
		path := command
		if !filepath.IsAbs(path) {
			path = filepath.Join(cwd, path)
		}
		return path, checkProgram(command, path)
	}
	var found *refusal
	for _, dir := range filepath.SplitList(env["PATH"]) {
		if dir == "" {
			dir = cwd
		}
		path := filepath.Join(dir, command)
		refused := checkProgram(command, path)
		if refused == nil {
			return path, nil
		}
		if refused.code == notExecutableCode && found == nil {
			found = refused
		}
	}
	if found != nil {
		return "", found
	}
	return "", &refusal{notFoundCode, agentapi.EndReason_END_REASON_NOT_FOUND, command + ": not found in PATH (" + env["PATH"] + ")"}
}

func checkProgram(command, path string) *refusal {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return &refusal{notFoundCode, agentapi.EndReason_END_REASON_NOT_FOUND, command + ": not found"}
	case info.IsDir():
		return &refusal{notExecutableCode, agentapi.EndReason_END_REASON_NOT_EXECUTABLE, command + ": is a folder"}
	case info.Mode()&0o111 == 0:
		return &refusal{notExecutableCode, agentapi.EndReason_END_REASON_NOT_EXECUTABLE, command + ": is not executable"}
	}
	return nil
}

// streams are the files between a process and its agent.
type streams struct {
	in                          *stdin
	tty, ttyChild               *os.File
	inChild, outChild, errChild *os.File
	out, err                    *os.File
}

func openStreams(r *agentapi.StartRequest) (s *streams, err error) {
	s = &streams{}
	defer func() {
		if err != nil {
			s.closeChild()
			s.closeParent()
		}
	}()
	if t := r.GetTty(); t != nil {
		if s.tty, s.ttyChild, err = pty.Open(); err != nil {
			return s, err
		}
		_ = setSize(s.tty, t)
		s.in = &stdin{file: s.tty, tty: true}
		return s, nil
	}
	if len(r.GetStdin()) == 0 && !r.GetStdinOpen() {
		if s.inChild, err = os.Open(os.DevNull); err != nil {
			return s, err
		}
	} else {
		var in *os.File
		if s.inChild, in, err = os.Pipe(); err != nil {
			return s, err
		}
		s.in = &stdin{file: in, pipe: in}
	}
	if s.out, s.outChild, err = os.Pipe(); err != nil {
		return s, err
	}
	s.err, s.errChild, err = os.Pipe()
	return s, err
}

func (s *streams) child() []uintptr {
	if s.ttyChild != nil {
		return []uintptr{s.ttyChild.Fd(), s.ttyChild.Fd(), s.ttyChild.Fd()}
	}
	return []uintptr{s.inChild.Fd(), s.outChild.Fd(), s.errChild.Fd()}
}

func (s *streams) outputs() []*pipe {
	if s.tty != nil {
		return []*pipe{{file: s.tty, stream: agentapi.Stream_STREAM_STDOUT, exited: make(chan struct{})}}
	}
	return []*pipe{
		{file: s.out, stream: agentapi.Stream_STREAM_STDOUT, exited: make(chan struct{})},
		{file: s.err, stream: agentapi.Stream_STREAM_STDERR, exited: make(chan struct{})},
	}
}

func (s *streams) closeChild() { closeAll(s.ttyChild, s.inChild, s.outChild, s.errChild) }

func (s *streams) closeParent() {
	closeAll(s.tty, s.out, s.err)
	if s.in != nil {
		closeAll(s.in.pipe)
	}
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

func setSize(tty *os.File, t *agentapi.Terminal) error {
	return pty.Setsize(tty, &pty.Winsize{Rows: uint16(min(t.GetRows(), 65535)), Cols: uint16(min(t.GetCols(), 65535))})
}
