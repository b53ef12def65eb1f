package direct

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
)

// The protocol of attached commands: binary messages whose first byte says what
// they are; docs/api-gateway.md describes it.
const (
	execProtocol = "aetherium.exec.v1"
	frameStdin   = 0
	frameStdout  = 1
	frameStderr  = 2
	frameEnd     = 3
	frameControl = 4
	frameGap     = 5
	frameHeader  = 9 // kind and offset

	maxFrame  = 1 << 20
	pingEvery = 20 * time.Second
	readBack  = 1 << 20 // output read from the store at once
)

// attach connects a client to a running command's streams. A client that goes
// away leaves the command running.
func (f *face) attach(w http.ResponseWriter, r *http.Request) error {
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if s := r.URL.Query().Get("offset"); s == "" {
		offset = 0
	} else if err != nil || offset < 0 {
		return types.InvalidField("offset", s, "is no offset", "use a number of bytes")
	}
	task, err := f.Store.GetTask(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	g, err := f.VMs.Guest(task.VMID)
	if err != nil {
		return err
	}
	ws, err := accept(w, r, execProtocol)
	if err != nil {
		return nil // Accept has answered
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(maxFrame)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	a := &attachment{face: f, ws: ws, guest: g, task: task, offset: offset}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		defer cancel() // the client has gone
		a.readClient(ctx)
	})
	reading.Go(func() { keepAlive(ctx, ws) })
	a.run(ctx)
	return nil
}

// attachment is one client at one command.
type attachment struct {
	face   *face
	ws     *websocket.Conn
	guest  *guest.Client
	task   types.Task
	offset int64
}

// run sends output and the end.
func (a *attachment) run(ctx context.Context) {
	st, err := a.guest.Follow(ctx, a.task.ID, a.offset, true, func(e guest.FollowEvent) error { return a.event(ctx, e) })
	switch {
	case err == nil:
		result := guest.ResultOf(st)
		a.end(ctx, ending{Result: &result, Error: guest.ErrorOf(st)})
	case ctx.Err() != nil:
	case types.KindOf(err) == types.KindNotFound:
		a.fromStore(ctx)
	default:
		// The agent broke off, as when its VM ends; the record soon says how.
		a.face.Log.Debug("attached stream broke off", "task", a.task.ID, "error", err)
		_ = a.ws.Close(websocket.StatusInternalError, "the VM's agent broke off; attach again")
	}
}

func (a *attachment) event(ctx context.Context, e guest.FollowEvent) error {
	if e.Gap != nil {
		a.offset = e.Gap.Offset + e.Gap.Length
		return a.sendJSON(ctx, frameGap, map[string]any{"gap": e.Gap})
	}
	return a.chunk(ctx, *e.Chunk)
}

func (a *attachment) chunk(ctx context.Context, c types.OutputChunk) error {
	b := make([]byte, frameHeader, frameHeader+len(c.Data))
	b[0] = frameStdout
	if c.Stream == types.Stderr {
		b[0] = frameStderr
	}
	binary.BigEndian.PutUint64(b[1:], uint64(c.Offset)) //nolint:gosec // never negative
	a.offset = c.End()
	return a.ws.Write(ctx, websocket.MessageBinary, append(b, c.Data...))
}

// fromStore sends what the record has of a command that the agent has forgotten:
// it has ended.
func (a *attachment) fromStore(ctx context.Context) {
	for {
		chunks, err := a.face.Store.ReadOutput(ctx, a.task.ID, "", a.offset, readBack)
		if err != nil {
			_ = a.ws.Close(websocket.StatusInternalError, "the record cannot be read; attach again")
			return
		}
		if len(chunks) == 0 {
			break
		}
		for _, c := range chunks {
			if a.chunk(ctx, c) != nil {
				return
			}
		}
	}
	task, err := a.face.Store.GetTask(ctx, a.task.ID)
	if err != nil || !task.State.Ended() {
		_ = a.ws.Close(websocket.StatusTryAgainLater, "the task is between two attempts; attach again")
		return
	}
	end := ending{Error: task.Error}
	if len(task.Result) > 0 {
		end.Result = &types.ExecResult{}
		if json.Unmarshal(task.Result, end.Result) == nil {
			end.Result.Stdout, end.Result.Stderr = "", ""
		}
	}
	a.end(ctx, end)
}

// ending is the last message: how the command ended, and what ended it if not
// itself.
type ending struct {
	Result *types.ExecResult `json:"result,omitempty"`
	Error  *types.Error      `json:"error,omitempty"`
}

func (a *attachment) end(ctx context.Context, e ending) {
	if a.sendJSON(ctx, frameEnd, e) == nil {
		_ = a.ws.Close(websocket.StatusNormalClosure, "")
	}
}

func (a *attachment) sendJSON(ctx context.Context, kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.ws.Write(ctx, websocket.MessageBinary, append([]byte{kind}, b...))
}

// keepAlive notices a client that is gone without a word.
func keepAlive(ctx context.Context, ws *websocket.Conn) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limit, cancel := context.WithTimeout(ctx, pingEvery)
		err := ws.Ping(limit)
		cancel()
		if err != nil {
			_ = ws.CloseNow()
			return
		}
	}
}

// control is a client's message about a command.
type control struct {
	Resize *struct {
		Rows int `json:"rows"`
		Cols int `json:"cols"`
	} `json:"resize"`
	Signal   string `json:"signal"`
	StdinEOF bool   `json:"stdin_eof"`
}

// input is what a client writes to the command, in order.
type input struct {
	offset int64
	data   []byte
	eof    bool
}

// readClient passes on what the client says until it says no more. Standard input
// has a goroutine of its own: a command that does not read must not keep a
// Ctrl-C from it.
func (a *attachment) readClient(ctx context.Context) {
	const waiting = 16
	stdin := make(chan input, waiting)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer close(stdin)
	writing.Go(func() { a.writeStdin(ctx, stdin) })
	var end int64
	for {
		_, b, err := a.ws.Read(ctx)
		if err != nil {
			return
		}
		switch {
		case len(b) >= frameHeader && b[0] == frameStdin:
			in := input{offset: int64(binary.BigEndian.Uint64(b[1:])), data: b[frameHeader:]} //nolint:gosec // the agent refuses what is out of place
			end = in.offset + int64(len(in.data))
			select {
			case stdin <- in:
			case <-ctx.Done():
				return
			}
		case len(b) > 0 && b[0] == frameControl:
			var c control
			if json.Unmarshal(b[1:], &c) != nil {
				continue
			}
			if c.StdinEOF {
				select {
				case stdin <- input{offset: end, eof: true}:
				case <-ctx.Done():
					return
				}
			}
			a.control(ctx, c)
		}
	}
}

func (a *attachment) control(ctx context.Context, c control) {
	var err error
	if c.Resize != nil {
		err = a.guest.Resize(ctx, a.task.ID, c.Resize.Rows, c.Resize.Cols)
	}
	if sig := unix.SignalNum(c.Signal); sig != 0 {
		err = errors.Join(err, a.guest.Signal(ctx, a.task.ID, syscall.Signal(sig), false))
	}
	if err != nil && ctx.Err() == nil {
		a.face.Log.Debug("client's control was refused", "task", a.task.ID, "error", err)
	}
}

func (a *attachment) writeStdin(ctx context.Context, stdin <-chan input) {
	for in := range stdin {
		if _, err := a.guest.WriteStdin(ctx, a.task.ID, in.offset, in.data, in.eof); err != nil {
			if ctx.Err() == nil {
				a.face.Log.Debug("command does not take its input", "task", a.task.ID, "error", err)
			}
			for range stdin { // the rest has nowhere to go
			}
			return
		}
	}
}
