package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/common/problem"
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

	mu       sync.Mutex
	conn     *websocket.Conn
	ready    chan struct{} // closed while conn is there
	offset   int64         // of the output
	stdinPos int64
	Cut      int64 // bytes of output that were not kept for us
}

// Attach prepares to follow a command; Run does it.
func (c *Client) Attach(taskID string, stdout, stderr io.Writer) *Attached {
	return &Attached{client: c, taskID: taskID, stdout: stdout, stderr: stderr, ready: make(chan struct{})}
}

// End is how an attached command ended: by itself with a result, or with an
// error, or, if it had begun by then, with both.
type End struct {
	Result *types.ExecResult `json:"result"`
	Error  *types.Error      `json:"error"`
}

// Run copies output until the command has ended. A broken connection is made
// again, and goes on at the very byte.
func (a *Attached) Run(ctx context.Context) (End, error) {
	const between, most = 500 * time.Millisecond, 60
	for failures := 0; ; {
		before := a.offset
		end, err := a.once(ctx)
		if err == nil {
			return *end, nil
		}
		if ctx.Err() != nil {
			return End{}, ctx.Err()
		}
		if k := types.KindOf(err); k != types.KindUnavailable {
			return End{}, err
		}
		if a.offset > before {
			failures = 0
		}
		if failures++; failures > most {
			return End{}, err
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return End{}, ctx.Err()
		}
	}
}

func (a *Attached) once(ctx context.Context) (*End, error) {
	conn, err := a.client.webSocket(ctx, "/tasks/"+url.PathEscape(a.taskID)+"/attach", url.Values{"offset": {strconv.FormatInt(a.offset, 10)}}, execProtocol)
	if err != nil {
		return nil, err
	}
	a.connected(conn)
	defer a.disconnected(conn)
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return nil, types.Errorf(types.KindUnavailable, "the connection broke off: %w", err)
		}
		end, err := a.message(b)
		if end != nil || err != nil {
			return end, err
		}
	}
}

func (a *Attached) connected(conn *websocket.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn = conn
	close(a.ready)
}

func (a *Attached) disconnected(conn *websocket.Conn) {
	a.mu.Lock()
	a.lost(conn)
	a.mu.Unlock()
	_ = conn.Close(websocket.StatusNormalClosure, "")
}

// lost has senders wait for the next connection. The lock is held.
func (a *Attached) lost(conn *websocket.Conn) {
	if a.conn == conn {
		a.conn = nil
		a.ready = make(chan struct{})
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
		w := a.stdout
		if b[0] == frameStderr {
			w = a.stderr
		}
		if _, err := w.Write(b[frameHeader:]); err != nil {
			return nil, types.Errorf(types.KindInvalid, "write the command's output: %w", err)
		}
		a.offset = int64(binary.BigEndian.Uint64(b[1:])) + int64(len(b)-frameHeader) //nolint:gosec // offsets fit
	case frameGap:
		var m struct {
			Gap struct{ Offset, Length int64 } `json:"gap"`
		}
		if json.Unmarshal(b[1:], &m) == nil {
			a.Cut += m.Gap.Length
			a.offset = m.Gap.Offset + m.Gap.Length
		}
	case frameEnd:
		var end End
		if err := json.Unmarshal(b[1:], &end); err != nil {
			return nil, types.Errorf(types.KindInternal, "the server's last message cannot be read: %w", err)
		}
		return &end, nil
	}
	return nil, nil
}

// send sends a message as soon as there is a connection.
func (a *Attached) send(ctx context.Context, b []byte) error {
	for {
		a.mu.Lock()
		conn, ready := a.conn, a.ready
		a.mu.Unlock()
		if conn == nil {
			select {
			case <-ready:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := conn.Write(ctx, websocket.MessageBinary, b); err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		a.mu.Lock()
		a.lost(conn)
		a.mu.Unlock()
		_ = conn.CloseNow() // Run notices, and connects again
	}
}

func (a *Attached) control(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.send(ctx, append([]byte{frameControl}, b...))
}

// Stdin copies a reader to the command, then ends its standard input.
func (a *Attached) Stdin(ctx context.Context, r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			b := make([]byte, frameHeader, frameHeader+n)
			b[0] = frameStdin
			binary.BigEndian.PutUint64(b[1:], uint64(a.stdinPos)) //nolint:gosec // never negative
			if err := a.send(ctx, append(b, buf[:n]...)); err != nil {
				return err
			}
			a.stdinPos += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return a.control(ctx, map[string]bool{"stdin_eof": true})
		}
		if err != nil {
			return err
		}
	}
}

// Resize tells the command's terminal its size.
func (a *Attached) Resize(ctx context.Context, rows, cols int) error {
	return a.control(ctx, map[string]any{"resize": map[string]int{"rows": rows, "cols": cols}})
}

// Signal sends a signal, as "SIGINT", to the command's process group.
func (a *Attached) Signal(ctx context.Context, name string) error {
	return a.control(ctx, map[string]string{"signal": name})
}

// webSocket opens a WebSocket of the API.
func (c *Client) webSocket(ctx context.Context, path string, q url.Values, protocols ...string) (*websocket.Conn, error) {
	header := http.Header{}
	c.identify(header)
	conn, resp, err := websocket.Dial(ctx, c.url(request{path: path, query: q}), &websocket.DialOptions{
		HTTPClient: c.http, HTTPHeader: header, Subprotocols: protocols,
	})
	if err != nil {
		if resp != nil && resp.StatusCode >= http.StatusBadRequest {
			return nil, problem.Read(resp)
		}
		return nil, c.unreachable(ctx, err)
	}
	const most = 8 << 20
	conn.SetReadLimit(most)
	return conn, nil
}

// Tunnel opens a TCP connection to a port inside a VM.
func (c *Client) Tunnel(ctx context.Context, vm string, port int) (net.Conn, error) {
	conn, err := c.webSocket(ctx, vmPath(vm, "tunnels", fmt.Sprint(port)), nil)
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.WithoutCancel(ctx), conn, websocket.MessageBinary), nil
}
