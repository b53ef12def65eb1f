package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

// session is a command in a VM with this program's streams at it.
type session struct {
	*app
	spec     types.ExecSpec
	in       int  // descriptor of the terminal
	raw      bool // the terminal is the command's own
	task     types.Task
	attached *client.Attached
	status   atomic.Pointer[string] // what is waited for
	restore  func()                 // the terminal
	told     time.Time              // when a break was last told
	leave    context.CancelFunc
	left     atomic.Int32 // the exit code of a session that a signal has ended
}

// exec runs a command to its end, attached, and answers its exit code.
func (a *app) exec(ctx context.Context, vm string, spec types.ExecSpec) error {
	in, inIsTerminal := terminal(a.in)
	s := &session{app: a, spec: spec, in: in, raw: spec.TTY && spec.StdinOpen && inIsTerminal, restore: func() {}}
	s.likeOurs(inIsTerminal)

	signals := make(chan os.Signal, 8)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) { // as nohup has it
			signal.Notify(signals, sig)
		}
	}
	defer signal.Stop(signals)
	ctx, s.leave = context.WithCancel(ctx)
	started := make(chan struct{})
	var beside sync.WaitGroup
	defer beside.Wait()
	defer s.leave()
	beside.Go(func() { s.obey(ctx, signals, started) })

	var err error
	if s.task, err = a.client.Execute(ctx, vm, s.spec, 0); err != nil {
		return s.orLeft(err)
	}
	if s.raw {
		before, err := term.MakeRaw(in)
		if err != nil {
			return types.Errorf(types.KindInvalid, "the terminal cannot be set up: %w", err)
		}
		s.restore = sync.OnceFunc(func() { _ = term.Restore(in, before) })
		defer s.restore()
	}
	p := a.progress(s.waiting)
	defer p.close()
	s.attached = a.client.Attach(s.task.ID, p.until(a.out), p.until(a.err))
	if _, ok := terminal(a.err); ok {
		s.attached.OnBreak = s.broke
	}
	close(started)
	if p != nil {
		beside.Go(func() { s.watch(ctx) })
	}
	if spec.TTY && inIsTerminal {
		beside.Go(func() { s.followSize(ctx) })
	}
	if spec.StdinOpen {
		// Not waited for: nothing ends a read of a terminal.
		go func() { _ = s.attached.Stdin(ctx, a.input()) }()
	}
	return s.orLeft(s.toTheEnd(ctx))
}

// input is what there is to read.
func (a *app) input() io.Reader {
	if a.in == nil {
		return strings.NewReader("")
	}
	return a.in
}

// likeOurs tells the command's terminal what ours is, if we have one.
func (s *session) likeOurs(haveOne bool) {
	if !s.spec.TTY || !haveOne {
		return
	}
	if cols, rows, err := term.GetSize(s.in); err == nil {
		s.spec.Rows, s.spec.Cols = rows, cols
	}
	if kind := s.env("TERM"); kind != "" && s.spec.Env["TERM"] == "" {
		env := map[string]string{"TERM": kind}
		maps.Copy(env, s.spec.Env)
		s.spec.Env = env
	}
}

// orLeft is how a session ends that a signal may have ended.
func (s *session) orLeft(err error) error {
	if code := s.left.Load(); code != 0 && err != nil {
		return exitCode(code)
	}
	return err
}

// toTheEnd follows the command: attached, and where that fails for good, by its
// record.
func (s *session) toTheEnd(ctx context.Context) error {
	end, err := s.attached.Run(ctx)
	s.restore()
	if err != nil && ctx.Err() == nil && types.KindOf(err) == types.KindUnavailable {
		if s.spec.StdinOpen { // it would wait for what we cannot bring
			return types.AsError(err).WithRemedy("the command may go on; see aether-cli task get %s", s.task.ID)
		}
		return s.byRecord(ctx, s.attached.Offset(), s.attached.Cut())
	}
	if err != nil {
		return err
	}
	return s.outcome(end, s.attached.Cut())
}

// byRecord follows the command's record from an offset on.
func (s *session) byRecord(ctx context.Context, at, cut int64) error {
	t, err := s.client.FollowOutput(ctx, s.task.ID, "", at, func(c types.OutputChunk) error {
		cut += max(c.Offset-at, 0)
		at = c.End()
		return s.printChunk(c)
	})
	if err != nil {
		return err
	}
	return s.outcome(endOf(t), cut)
}

// outcome makes the program's end of a command's.
func (a *app) outcome(end client.End, cut int64) error {
	if cut > 0 {
		a.say("%d bytes of output were cut", cut)
	}
	if end.Error != nil {
		return end.Error
	}
	if end.Result == nil {
		return types.Errorf(types.KindInternal, "the command ended without a result")
	}
	if end.Result.Reason != "" {
		a.say("%s", end.Result.Reason)
	}
	if end.Result.ExitCode != 0 {
		return exitCode(end.Result.ExitCode)
	}
	return nil
}

// endOf is a command's end, from its task.
func endOf(t types.Task) client.End {
	end := client.End{Error: t.Error}
	if len(t.Result) > 0 {
		var r types.ExecResult
		if json.Unmarshal(t.Result, &r) == nil {
			end.Result = &r
		}
	}
	if end.Result == nil && end.Error == nil {
		end.Error = types.AsError(taskError(t))
	}
	return end
}

func (s *session) set(text string) { s.status.Store(&text) }

func (s *session) waiting() string {
	if text := s.status.Load(); text != nil {
		return *text
	}
	return ""
}

// broke tells of a connection that is gone, once in a while.
func (s *session) broke(error) {
	const while = 30 * time.Second
	if time.Since(s.told) > while {
		s.told = time.Now()
		_, _ = fmt.Fprint(s.err, "\r\naether-cli: the connection broke; trying again\r\n")
	}
}

// watch tells what the command waits for until it runs.
func (s *session) watch(ctx context.Context) {
	const each = time.Second
	for t := s.task; ; {
		if t.State == types.TaskRunning || t.State.Ended() {
			s.set("")
			return
		}
		s.set(waitsFor(t))
		now, err := s.client.GetTask(ctx, t.ID, each)
		if err != nil {
			return
		}
		t = now
	}
}

// followSize tells the command whenever its terminal's size changes.
func (s *session) followSize(ctx context.Context) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	rows, cols := s.spec.Rows, s.spec.Cols
	for {
		// It may have changed before anybody listened.
		if c, r, err := term.GetSize(s.in); err == nil && (r != rows || c != cols) {
			rows, cols = r, c
			_ = s.attached.Resize(ctx, rows, cols)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// obey hands signals on to the command. A second Ctrl-C soon after the first
// cancels its task, and one more leaves; so does one before there is a task. A
// terminal that is gone takes the command with it.
func (s *session) obey(ctx context.Context, signals <-chan os.Signal, started <-chan struct{}) {
	const soon, patience = 2 * time.Second, time.Second
	var last time.Time
	for canceled := false; ; {
		var sig os.Signal
		select {
		case <-ctx.Done():
			return
		case sig = <-signals:
		}
		select {
		case <-started:
		default:
			s.end(exitInterrupted)
			return
		}
		switch {
		case sig == syscall.SIGHUP:
			limited, cancel := context.WithTimeout(ctx, patience)
			_ = s.attached.Signal(limited, "SIGHUP")
			cancel()
			s.end(exitHangup)
			return
		case canceled:
			s.end(exitInterrupted)
			return
		case time.Since(last) < soon:
			canceled = true
			s.left.Store(exitInterrupted)
			go s.cancel(ctx)
			continue
		}
		last = time.Now()
		name := "SIGINT"
		if sig == syscall.SIGTERM {
			name = "SIGTERM"
		}
		go func() { _ = s.attached.Signal(ctx, name) }()
	}
}

func (s *session) cancel(ctx context.Context) {
	if _, err := s.client.CancelTask(ctx, s.task.ID); err != nil && ctx.Err() == nil && types.KindOf(err) != types.KindConflict {
		s.say("the task cannot be canceled: %s", err)
	}
}

// end leaves the command to itself.
func (s *session) end(code int32) {
	s.left.Store(code)
	s.leave()
}
