package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	heartbeat = 15 * time.Second
	// writeLimit is how long a client may take to read what it is sent. One that
	// is slower is cut off; it resumes with Last-Event-ID.
	writeLimit = 30 * time.Second
)

// Wants reports whether the client asks for server-sent events rather than JSON.
func Wants(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// sse writes server-sent events (WHATWG HTML, section 9.2).
type sse struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
	mu   sync.Mutex // heartbeats come from beside
}

// openSSE begins an answer of server-sent events. The caller must call stop when
// it has written its last; until then comments keep idle connections open.
func openSSE(ctx context.Context, w http.ResponseWriter) (s *sse, stop func()) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the stream back
	s = &sse{w: w, ctrl: http.NewResponseController(w)}
	w.WriteHeader(http.StatusOK)
	_ = s.write([]byte(": stream\n\n"))

	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(heartbeat)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				_ = s.write([]byte(": alive\n\n")) // who writes the events sees the error
			}
		}
	}()
	return s, func() {
		cancel()
		<-done
		_ = s.ctrl.SetWriteDeadline(time.Time{}) // the connection's next answer has its own
	}
}

// send writes one event. Its data is JSON and so has no newline.
func (s *sse) send(event string, id int64, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("event: " + event + "\nid: " + strconv.FormatInt(id, 10) + "\ndata: ")
	b.Write(body)
	b.WriteString("\n\n")
	return s.write(b.Bytes())
}

func (s *sse) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ctrl.SetWriteDeadline(time.Now().Add(writeLimit)) // recorders in tests have none
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.ctrl.Flush()
}
