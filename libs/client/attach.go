package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/types"
)

// The WebSocket protocol of attached commands: binary messages whose first byte
// says what they are. The gateway's documentation describes it.
const (
	execProtocol = "aetherium.exec.v1"
	frameStdin   = 0
	frameStdout  = 1
	frameStderr  = 2
	frameEnd     = 3
	frameControl = 4
	frameGap     = 5
	frameHeader  = 9 // kind and offset
)

// Attached is a running command's streams.
type Attached struct {
	client *Client
	taskID string
	stdout io.Writer
	stderr io.Writer

	// OnBreak, if set, hears of each break of the connection, before the next try.
	OnBreak func(error)

	offset int64 // of the output; Run's alone
	cut    int64
	since  time.Time // when the connection was made; zero if it was not

	mu      sync.Mutex
	changed *sync.Cond      // conn or stdin has changed; with mu
	conn    *websocket.Conn // nil between two connections
	stdin   stdin
}

// Attach prepares to follow a command from the beginning of its output; Run does
// it.
func (c *Client) Attach(taskID string, stdout, stderr io.Writer) *Attached {
	a := &Attached{client: c, taskID: taskID, stdout: stdout, stderr: stderr}
	a.changed = sync.NewCond(&a.mu)
	return a
}

// Offset is how much of the output has been handed on or passed over, both
// streams together. It is for when Run has ended.
func (a *Attached) Offset() int64 { return a.offset }

// Cut is how many bytes of output before Offset were not kept for us. It is for
// when Run has ended.
func (a *Attached) Cut() int64 { return a.cut }

// End is how an attached command ended: by itself with a result, or with an
// error, or, if it had begun by then, with both.
type End struct {
	Result *types.ExecResult `json:"result"`
	Error  *types.Error      `json:"error"`
}

// Run copies output until the command has ended. A broken connection is made
// again, and goes on at the very byte; where that fails for too long, the answer
// is types.KindUnavailable and the command may well go on.
func (a *Attached) Run(ctx context.Context) (End, error) {
	again := a.client.retry()
	for {
		before := a.offset
		end, err := a.once(ctx)
		switch {
		case err == nil:
			if end.Result != nil && end.Result.OutputTruncated {
				a.passOver(end.Result.StdoutBytes + end.Result.StderrBytes)
			}
			return *end, nil
		case ctx.Err() != nil:
			return End{}, ctx.Err()
		case types.KindOf(err) != types.KindUnavailable:
			return End{}, err
		}
		again.held(a.since)
		if a.offset > before {
			again.progressed()
		}
		if a.OnBreak != nil {
			a.OnBreak(err)
		}
		if err := again.after(ctx, err); err != nil {
			return End{}, err
		}
	}
}

func (a *Attached) once(ctx context.Context) (*End, error) {
	a.since = time.Time{}
	query := url.Values{"offset": {strconv.FormatInt(a.offset, 10)}}
	conn, err := a.client.webSocket(ctx, "/tasks/"+url.PathEscape(a.taskID)+"/attach", query, execProtocol)
	if err != nil {
		return nil, err
	}
	a.since = time.Now()
	a.connected(conn)
	defer func() {
		a.disconnected(conn)
		_ = conn.CloseNow()
	}()
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return nil, broken("the connection to the command", err)
		}
		end, err := a.message(b)
		if end != nil {
			_ = conn.Close(websocket.StatusNormalClosure, "")
		}
		if end != nil || err != nil {
			return end, err
		}
	}
}

func (a *Attached) connected(conn *websocket.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn = conn
	a.changed.Broadcast()
}

// disconnected has senders wait for the next connection.
func (a *Attached) disconnected(conn *websocket.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == conn {
		a.conn = nil
	}
}

func (a *Attached) message(b []byte) (*End, error) {
	if len(b) == 0 {
		return nil, nil
	}
	switch b[0] {
	case frameStdout, frameStderr:
		if len(b) < frameHeader {
			return nil, types.Errorf(types.KindInternal, "the server sends a message without its header")
		}
		return nil, a.output(b[0], int64(binary.BigEndian.Uint64(b[1:])), b[frameHeader:]) //nolint:gosec // offsets fit
	case frameGap:
		var m struct {
			Gap struct {
				Offset int64 `json:"offset"`
				Length int64 `json:"length"`
			} `json:"gap"`
		}
		if err := json.Unmarshal(b[1:], &m); err != nil {
			return nil, types.Errorf(types.KindInternal, "the server's message about cut output cannot be read: %w", err)
		}
		a.passOver(m.Gap.Offset + m.Gap.Length)
	case frameEnd:
		var end End
		if err := json.Unmarshal(b[1:], &end); err != nil {
			return nil, types.Errorf(types.KindInternal, "the server's last message cannot be read: %w", err)
		}
		return &end, nil
	}
	return nil, nil
}

// output hands on what is new of a message.
func (a *Attached) output(kind byte, offset int64, data []byte) error {
	a.passOver(offset)
	data = data[min(a.offset-offset, int64(len(data))):] // what we have already
	if len(data) == 0 {
		return nil
	}
	w := a.stdout
	if kind == frameStderr {
		w = a.stderr
	}
	n, err := w.Write(data)
	a.offset += int64(n)
	if err != nil {
		return types.Errorf(types.KindInvalid, "the command's output cannot be written: %w", err)
	}
	return nil
}

// passOver counts the bytes up to an offset as cut: the server has them no more.
func (a *Attached) passOver(offset int64) {
	if offset > a.offset {
		a.cut += offset - a.offset
		a.offset = offset
	}
}

// Resize tells the command's terminal its size.
func (a *Attached) Resize(ctx context.Context, rows, cols int) error {
	return a.control(ctx, map[string]any{"resize": map[string]int{"rows": rows, "cols": cols}})
}

// Signal sends a signal, as "SIGINT", to the command's process group. It waits
// for a connection.
func (a *Attached) Signal(ctx context.Context, name string) error {
	return a.control(ctx, map[string]string{"signal": name})
}

func (a *Attached) control(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b = append([]byte{frameControl}, b...)
	defer a.wakeAt(ctx)()
	for {
		a.mu.Lock()
		for a.conn == nil && ctx.Err() == nil {
			a.changed.Wait()
		}
		conn := a.conn
		a.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if a.write(ctx, conn, b) {
			return nil
		}
	}
}

// write sends a message. One that fails ends its connection; Run makes another.
func (a *Attached) write(ctx context.Context, conn *websocket.Conn, b []byte) bool {
	if conn.Write(ctx, websocket.MessageBinary, b) == nil {
		return true
	}
	a.disconnected(conn)
	_ = conn.CloseNow()
	return false
}

// wakeAt has those who wait for a change see that ctx has ended.
func (a *Attached) wakeAt(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.changed.Broadcast()
	})
}
