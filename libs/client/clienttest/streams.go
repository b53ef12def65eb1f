package clienttest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/types"
)

// breaks takes the first of some offsets that has been reached.
func (s *Server) breaks(list *[]int64, at int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(*list) == 0 || at < (*list)[0] {
		return false
	}
	*list = (*list)[1:]
	return true
}

// until answers how many of n bytes after at may be sent before a break.
func (s *Server) until(at, n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.BreakOutput) > 0 && s.BreakOutput[0] < at+n {
		return max(s.BreakOutput[0]-at, 0)
	}
	return n
}

// output answers by server-sent events if asked to, else a page.
func (s *Server) output(w http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.exec(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	at, _ := strconv.ParseInt(q.Get("offset"), 10, 64)
	if q.Get("follow") == "" {
		return e.page(at, types.Stream(q.Get("stream"))), nil
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		at, _ = strconv.ParseInt(last, 10, 64)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(event string, id int64, v any) {
		b, _ := json.Marshal(v) // it always marshals
		_, _ = fmt.Fprintf(w, ": a comment\n\nevent: %s\nid: %d\ndata: %s\n\n", event, id, b)
		_ = http.NewResponseController(w).Flush()
	}
	for {
		chunk, task, err := e.next(r.Context(), at)
		if err != nil {
			return nil, nil
		}
		if chunk == nil {
			send("end", at, task)
			return nil, nil
		}
		chunk.Data = chunk.Data[:s.until(at, int64(len(chunk.Data)))]
		if at = chunk.End(); len(chunk.Data) > 0 {
			send("output", at, *chunk)
		}
		if s.breaks(&s.BreakOutput, at) {
			panic(http.ErrAbortHandler)
		}
	}
}

func (e *exec) page(at int64, stream types.Stream) any {
	e.mu.Lock()
	defer e.mu.Unlock()
	items := []types.OutputChunk{}
	for _, c := range e.chunks {
		if c.Offset >= at && (stream == "" || c.Stream == stream) {
			items = append(items, c)
			at = c.End()
			break
		}
	}
	return map[string]any{"items": items, "next_offset": at, "ended": e.task.State.Ended()}
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) (any, error) {
	e, err := s.exec(r)
	if err != nil {
		return nil, err
	}
	at, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err != nil {
		return nil, types.InvalidField("offset", r.URL.Query().Get("offset"), "is no offset", "use a number")
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"aetherium.exec.v1"}})
	if err != nil {
		return nil, nil //nolint:nilerr // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(1 << 20)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	read := make(chan struct{})
	defer func() { <-read }()
	go func() {
		defer close(read)
		defer cancel()
		s.hear(ctx, conn, e)
	}()
	if s.speak(ctx, conn, e, at) {
		_ = conn.Close(websocket.StatusNormalClosure, "")
	}
	_ = conn.CloseNow()
	return nil, nil
}

// speak sends output and the end; false if the connection is to be broken.
func (s *Server) speak(ctx context.Context, conn *websocket.Conn, e *exec, at int64) bool {
	for {
		chunk, task, err := e.next(ctx, at)
		if err != nil {
			return false
		}
		if chunk == nil {
			var end struct {
				Result *types.ExecResult `json:"result,omitempty"`
				Error  *types.Error      `json:"error,omitempty"`
			}
			_ = json.Unmarshal(task.Result, &end.Result)
			end.Error = task.Error
			b, _ := json.Marshal(end) // it always marshals
			return conn.Write(ctx, websocket.MessageBinary, append([]byte{3}, b...)) == nil
		}
		data := chunk.Data[:s.until(at, int64(len(chunk.Data)))]
		message := make([]byte, 9, 9+len(data))
		message[0] = 1
		if chunk.Stream == types.Stderr {
			message[0] = 2
		}
		binary.BigEndian.PutUint64(message[1:], uint64(chunk.Offset)) //nolint:gosec // never negative
		if len(data) > 0 && conn.Write(ctx, websocket.MessageBinary, append(message, data...)) != nil {
			return false
		}
		at = chunk.Offset + int64(len(data))
		if s.breaks(&s.BreakOutput, at) {
			return false
		}
	}
}

// hear takes what the client says.
func (s *Server) hear(ctx context.Context, conn *websocket.Conn, e *exec) {
	for {
		_, b, err := conn.Read(ctx)
		if err != nil || len(b) == 0 {
			return
		}
		switch {
		case b[0] == 0 && len(b) >= 9:
			at := int64(binary.BigEndian.Uint64(b[1:])) //nolint:gosec // the feed refuses what is out of place
			if s.breaks(&s.BreakStdin, at+int64(len(b)-9)) {
				_ = conn.CloseNow()
				return
			}
			if e.stdin.write(at, b[9:]) != nil {
				e.cancel() // a client must not do that: its task fails, and so the test
				return
			}
		case b[0] == 4:
			var c struct {
				Signal string                    `json:"signal"`
				EOF    bool                      `json:"stdin_eof"`
				Resize *struct{ Rows, Cols int } `json:"resize"`
			}
			_ = json.Unmarshal(b[1:], &c)
			if c.Signal != "" {
				e.signals <- c.Signal
			}
			if c.EOF {
				e.stdin.end()
			}
			if c.Resize != nil {
				e.sizes <- [2]int{c.Resize.Rows, c.Resize.Cols}
			}
		}
	}
}
