package api

import (
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// wrap puts around h what every request goes through, outermost first: its id,
// the access log, recovery from a panic, the guard.
func (g *Gateway) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(problem.HeaderRequestID)
		if !requestID.MatchString(id) {
			id = uuid.NewString()
			r.Header.Set(problem.HeaderRequestID, id) // for the worker
		}
		header := w.Header()
		header.Set(problem.HeaderRequestID, id)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")

		rec := &recorder{ResponseWriter: w}
		start := time.Now()
		defer func() { g.access(r, rec, id, time.Since(start)) }()
		defer g.recover(rec, r, id)
		if err := g.guard(r); err != nil {
			problem.Write(rec, r, err)
			return
		}
		h.ServeHTTP(rec, r)
	})
}

// recover turns a panic into a problem, if nothing was answered yet.
func (g *Gateway) recover(w *recorder, r *http.Request, id string) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { // net/http's own way to break off an answer
		panic(v)
	}
	if w.status != 0 && r.Context().Err() != nil { // the client went while it was answered
		return
	}
	g.Log.Error("panic", "request_id", id, "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	problem.Write(w, r, types.Errorf(types.KindInternal, "a fault inside Aetherium stopped this request").
		WithRemedy("the server's log has the cause under this request's id"))
}

func (g *Gateway) access(r *http.Request, w *recorder, id string, took time.Duration) {
	level := slog.LevelInfo
	if w.status < 400 && r.Method == http.MethodGet || w.status == 0 {
		level = slog.LevelDebug // reading and probing are too many to log each
	}
	g.Log.Log(r.Context(), level, "request",
		"request_id", id, "method", r.Method, "path", r.URL.Path, "status", w.status,
		"bytes", w.bytes, "duration", took, "remote", r.RemoteAddr)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0 until the answer has begun
	bytes  int64
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}
