package clienttest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// Command is what a command does. ctx ends when its task is canceled.
type Command func(ctx context.Context, p *Process) types.ExecResult

// Process is what a command has.
type Process struct {
	Spec           types.ExecSpec
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Signals        <-chan string
	Sizes          <-chan [2]int // rows and columns
}

// exec is a command that runs or has run.
type exec struct {
	cancel  context.CancelFunc
	stdin   *feed
	signals chan string
	sizes   chan [2]int

	mu      sync.Mutex
	changed *sync.Cond
	task    types.Task
	chunks  []types.OutputChunk
}

func (s *Server) execute(_ http.ResponseWriter, r *http.Request) (any, error) {
	var spec types.ExecSpec
	if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
		return nil, types.Errorf(types.KindInvalid, "the body is no exec: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	command := s.commands[spec.Command]
	vm, err := s.find(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	ctx, cancel := context.WithCancel(context.Background())
	e := &exec{cancel: cancel, stdin: newFeed(), signals: make(chan string, 16), sizes: make(chan [2]int, 16)}
	e.changed = sync.NewCond(&e.mu)
	e.task = types.Task{ID: s.id(), Type: types.TaskVMExecute, State: types.TaskRunning, VMID: vm.ID, Payload: payload, CreatedAt: now, StartedAt: &now}
	if !spec.StdinOpen {
		e.stdin.end()
	}
	s.execs[e.task.ID] = e
	task := e.task
	s.running.Go(func() {
		if command == nil {
			e.over(types.ExecResult{ExitCode: 127, Reason: spec.Command + ": not found"}, nil)
			return
		}
		e.over(command(ctx, &Process{
			Spec: spec, Stdin: e.stdin, Stdout: outlet{e, types.Stdout}, Stderr: outlet{e, types.Stderr}, Signals: e.signals, Sizes: e.sizes,
		}), ctx.Err())
	})
	return task, nil
}

// over ends the task.
func (e *exec) over(r types.ExecResult, canceled error) {
	e.stdin.close()
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now().UTC()
	e.task.State, e.task.EndedAt = types.TaskSucceeded, &now
	if canceled != nil {
		e.task.State = types.TaskCanceled
		e.task.Error = types.Errorf(types.KindCanceled, "canceled on request")
	}
	e.task.Result, _ = json.Marshal(r) // it always marshals
	e.changed.Broadcast()
}

// outlet keeps what a command writes.
type outlet struct {
	e      *exec
	stream types.Stream
}

func (o outlet) Write(b []byte) (int, error) {
	o.e.mu.Lock()
	defer o.e.mu.Unlock()
	at := int64(0)
	if n := len(o.e.chunks); n > 0 {
		at = o.e.chunks[n-1].End()
	}
	o.e.chunks = append(o.e.chunks, types.OutputChunk{Offset: at, Stream: o.stream, At: time.Now().UTC(), Data: append([]byte{}, b...)})
	o.e.changed.Broadcast()
	return len(b), nil
}

// next waits for the chunk after an offset; nil if the command ended without.
func (e *exec) next(ctx context.Context, offset int64) (*types.OutputChunk, types.Task, error) {
	defer context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.changed.Broadcast()
	})()
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		for _, c := range e.chunks {
			if c.End() > offset {
				skip := max(offset-c.Offset, 0)
				c.Offset, c.Data = c.Offset+skip, c.Data[skip:]
				return &c, e.task, nil
			}
		}
		if e.task.State.Ended() || ctx.Err() != nil {
			return nil, e.task, ctx.Err()
		}
		e.changed.Wait()
	}
}

// feed is a command's standard input, which takes bytes by offset as the agent
// does: what is there is skipped, a gap is refused.
type feed struct {
	mu      sync.Mutex
	changed *sync.Cond
	have    int64
	unread  []byte
	ended   bool
	closed  bool
}

func newFeed() *feed {
	f := &feed{}
	f.changed = sync.NewCond(&f.mu)
	return f
}

func (f *feed) write(offset int64, b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if offset > f.have {
		return errors.New("bytes are missing before these")
	}
	if b = b[min(f.have-offset, int64(len(b))):]; f.ended && len(b) > 0 {
		return errors.New("bytes after the end")
	}
	f.unread = append(f.unread, b...)
	f.have += int64(len(b))
	f.changed.Broadcast()
	return nil
}

func (f *feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.changed.Broadcast()
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.changed.Broadcast()
}

func (f *feed) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.unread) == 0 && !f.ended && !f.closed {
		f.changed.Wait()
	}
	if len(f.unread) == 0 {
		return 0, io.EOF
	}
	n := copy(b, f.unread)
	f.unread = f.unread[n:]
	return n, nil
}

func (s *Server) exec(r *http.Request) (*exec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.execs[r.PathValue("task")]
	if e == nil {
		return nil, types.Errorf(types.KindNotFound, "there is no task %q", r.PathValue("task"))
	}
	return e, nil
}

func (s *Server) getTask(_ http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.exec(r)
	if err != nil {
		return nil, err
	}
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	var task types.Task
	for at := int64(0); ; {
		chunk, t, err := e.next(ctx, at)
		if task = t; chunk == nil || err != nil {
			break
		}
		at = chunk.End()
	}
	return task, nil
}

func (s *Server) listTasks(http.ResponseWriter, *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tasks := []types.Task{}
	for _, e := range s.execs {
		e.mu.Lock()
		tasks = append(tasks, e.task)
		e.mu.Unlock()
	}
	return map[string]any{"items": tasks}, nil
}

func (s *Server) cancelTask(_ http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.exec(r)
	if err != nil {
		return nil, err
	}
	e.cancel()
	e.stdin.close()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.task.CancelRequested = true
	return e.task, nil
}
