package stream

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

const (
	maxClientFrame = 1 << 20
	maxWorkerFrame = 4 << 20
	// clientFrames is how many messages of a client wait for its command to start;
	// then the client is not read until it does.
	clientFrames = 16
	pingEvery    = 20 * time.Second
	dialLimit    = 10 * time.Second
)

// Attach connects a WebSocket to a command: to its worker while it runs, waiting
// for that if need be, or to the stored output when it has ended.
func (s *Server) Attach(w http.ResponseWriter, r *http.Request) {
	p := queryOf(r, "offset")
	offset := p.number("offset", 0, 0, math.MaxInt64)
	if !upgrades(w, r) {
		return
	}
	if err := p.err(); err != nil {
		fail(w, r, err)
		return
	}
	task, err := s.Store.GetTask(r.Context(), r.PathValue("task"))
	if err == nil && task.Type != types.TaskVMExecute {
		err = types.Errorf(types.KindConflict, "task %s is a %s: it runs no command", task.ID, task.Type).
			WithRemedy("attach to a vm:execute task; follow this one at /api/v1/tasks/%s?wait=1m", task.ID)
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	var worker *websocket.Conn
	if task.State == types.TaskRunning {
		// Before the upgrade, while a failure can still be told as HTTP.
		if worker, err = s.dialTask(r.Context(), task, offset); err != nil {
			if task, err = s.endedMeanwhile(r.Context(), task, err); err != nil {
				fail(w, r, err)
				return
			}
		}
	}
	s.serve(w, r, attachment{task: task, offset: offset, worker: worker})
}

// Shell makes a vm:execute task on a terminal and attaches to it.
func (s *Server) Shell(w http.ResponseWriter, r *http.Request) {
	p := queryOf(r, "command", "args", "user", "cwd", "rows", "cols", "term")
	spec := types.ExecSpec{
		Command: p.text("command"), Args: p.values["args"], User: p.text("user"), Cwd: p.text("cwd"),
		Rows: int(p.number("rows", 24, 1, 65535)), Cols: int(p.number("cols", 80, 1, 65535)),
		TTY: true, StdinOpen: true, Env: map[string]string{"TERM": "xterm-256color"},
	}
	if spec.Command == "" {
		// A login shell, the better one where there are two.
		spec.Command, spec.Args = "/bin/sh", []string{"-c", "command -v bash >/dev/null && exec bash -l || exec sh -l"}
	}
	if term := p.text("term"); term != "" {
		spec.Env["TERM"] = term
	}
	spec.ApplyDefaults()
	if !upgrades(w, r) {
		return
	}
	p.also(spec.Validate())
	task, err := s.submitShell(r, spec, p.err())
	if err != nil {
		fail(w, r, err)
		return
	}
	s.serve(w, r, attachment{task: task, announce: true})
}

func (s *Server) submitShell(r *http.Request, spec types.ExecSpec, bad error) (types.Task, error) {
	if bad != nil {
		return types.Task{}, bad
	}
	vm, err := s.Store.GetVM(r.Context(), r.PathValue("vm"))
	if err != nil {
		return types.Task{}, err
	}
	payload, err := json.Marshal(spec)
	if err != nil {
		return types.Task{}, err
	}
	return s.Submit(r.Context(), types.Task{
		Type: types.TaskVMExecute, VMID: vm.ID, Priority: types.PriorityHigh, Payload: payload,
	})
}

// upgrades refuses what is no WebSocket handshake before anything is done.
func upgrades(w http.ResponseWriter, r *http.Request) bool {
	if IsUpgrade(r) {
		return true
	}
	w.Header().Set("Upgrade", "websocket")
	problem.WriteStatus(w, r, http.StatusUpgradeRequired,
		types.InvalidField("Upgrade", r.Header.Get("Upgrade"), "this is a WebSocket", "connect with a WebSocket client, subprotocol "+Protocol))
	return false
}

// IsUpgrade reports a WebSocket handshake (RFC 6455, section 4.1).
func IsUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// attachment is one client at one command.
type attachment struct {
	task     types.Task
	offset   int64
	announce bool            // tell the client the task's id first
	worker   *websocket.Conn // set if the worker was reached already
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, a attachment) {
	if a.worker != nil {
		defer a.worker.CloseNow()
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{Protocol},
		// Pages of other origins were turned away with every other request of theirs.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered
	}
	conn.SetReadLimit(maxClientFrame)

	ctx, cancel := s.bound(r.Context())
	defer cancel()
	c := startClient(ctx, cancel, conn)
	err = s.attach(ctx, c, a)
	over := ctx.Err() != nil
	cancel()
	s.part(c, a, err, over)
	c.wait()
}

// part closes the client's connection in the way that tells what to do: 1000
// after the last message, 1012 or 1013 to attach again.
func (s *Server) part(c *client, a attachment, err error, over bool) {
	closed, ok := errors.AsType[websocket.CloseError](err)
	switch {
	case c.gone():
		s.Log.Debug("client left; its command goes on", "task", a.task.ID)
		_ = c.conn.CloseNow()
	case err == nil:
		_ = c.conn.Close(websocket.StatusNormalClosure, "")
	case over:
		_ = c.conn.Close(websocket.StatusServiceRestart, "the gateway is shutting down; attach again")
	case ok && closed.Code == websocket.StatusNoStatusRcvd:
		_ = c.conn.Close(websocket.StatusNormalClosure, "")
	case ok:
		_ = c.conn.Close(closed.Code, closed.Reason)
	case types.KindOf(err) == types.KindUnavailable:
		_ = c.conn.Close(websocket.StatusTryAgainLater, reason(err))
	default:
		_ = c.send(context.Background(), errorFrame(err))
		_ = c.conn.Close(websocket.StatusNormalClosure, "")
	}
}

// reason shortens an error to what a close frame takes (RFC 6455, section 5.5).
func reason(err error) string {
	const most = 123
	text := err.Error()
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return text
}

// attach shows the client its command to the end.
func (s *Server) attach(ctx context.Context, c *client, a attachment) error {
	if a.announce {
		f, err := taskFrame(a.task.ID)
		if err == nil {
			err = c.send(ctx, f)
		}
		if err != nil {
			return err
		}
	}
	if a.worker != nil {
		return c.pump(ctx, a.worker)
	}
	task, err := s.started(ctx, a)
	if err != nil {
		return err
	}
	if !task.State.Ended() {
		worker, err := s.dialTask(ctx, task, a.offset)
		if err == nil {
			defer worker.CloseNow()
			return c.pump(ctx, worker)
		}
		if task, err = s.endedMeanwhile(ctx, task, err); err != nil {
			return err
		}
	}
	return s.replay(ctx, c, task, a.offset)
}

// started waits until the task runs or has ended. A shell that nobody waits for
// any more is not started at all.
func (s *Server) started(ctx context.Context, a attachment) (types.Task, error) {
	watch := s.Hub.Watch(a.task.ID, func(e types.Event) bool { return e.Type == eventTaskState })
	defer watch.Close()
	task := a.task
	err := watch.Until(ctx, 0, func() (bool, error) {
		var err error
		task, err = s.Store.GetTask(ctx, a.task.ID)
		return task.State == types.TaskRunning || task.State.Ended(), err
	})
	if err != nil && a.announce && ctx.Err() != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialLimit)
		defer cancel()
		if _, cerr := s.Store.CancelTask(late, a.task.ID); cerr != nil {
			s.Log.Debug("shell that nobody waits for was not canceled", "task", a.task.ID, "error", cerr)
		}
	}
	return task, err
}

// replay sends the stored output from an offset on, and how the task ended.
func (s *Server) replay(ctx context.Context, c *client, task types.Task, offset int64) error {
	for {
		chunks, err := s.Store.ReadOutput(ctx, task.ID, "", offset, defaultOutputPage)
		if err != nil {
			return err
		}
		if len(chunks) == 0 {
			break
		}
		for _, chunk := range chunks {
			if err := c.send(ctx, outputFrame(chunk)); err != nil {
				return err
			}
		}
		offset = after(offset, chunks)
	}
	end, err := endFrame(task)
	if err != nil {
		return err
	}
	return c.send(ctx, end)
}

// endedMeanwhile looks whether the worker could not be attached to for the
// reason that the command was over: then the task as it ended; else err.
func (s *Server) endedMeanwhile(ctx context.Context, task types.Task, err error) (types.Task, error) {
	now, gerr := s.Store.GetTask(ctx, task.ID)
	if gerr != nil || !now.State.Ended() {
		return task, err
	}
	return now, nil
}
