// Package direct is a worker's direct face: HTTP for what must not go through
// the queue, as files, ports, tunnels, figures and interactive streams. Gateways
// reach it by the worker's address and have checked who asks and whether the VM
// exists; the face reaches nothing but the guest of the VM that the path names.
package direct

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
	"github.com/aetherium/aetherium/services/core/runtime"
	"github.com/aetherium/aetherium/services/core/store"
)

// VMs is what the face needs of the worker.
type VMs interface {
	// Guest answers the client of a running VM's agent.
	Guest(vmID string) (*guest.Client, error)
	// Stats measures a VM from outside.
	Stats(ctx context.Context, vmID string) (runtime.Stats, error)
}

// Config is what the face works with.
type Config struct {
	VMs   VMs
	Store *store.Store
	// Token is what callers must bear; empty where only the host's own processes
	// can connect, as on a Unix socket.
	Token string
	// MaxUpload limits a file or archive in bytes; 64 GiB if zero. The guest's own
	// disk is the real limit.
	MaxUpload int64
	Log       *slog.Logger
}

const (
	maxJSON          = 1 << 20
	defaultMaxUpload = 64 << 30
)

type face struct{ Config }

// New makes the face.
func New(cfg Config) http.Handler {
	if cfg.MaxUpload == 0 {
		cfg.MaxUpload = defaultMaxUpload
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	f := &face{cfg}
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/vms/{id}/files":              f.readFile,
		"PUT /v1/vms/{id}/files":              f.writeFile,
		"DELETE /v1/vms/{id}/files":           f.removeFile,
		"GET /v1/vms/{id}/files/info":         f.fileInfo,
		"GET /v1/vms/{id}/files/list":         f.listFiles,
		"POST /v1/vms/{id}/files/mkdir":       f.makeDir,
		"POST /v1/vms/{id}/files/move":        f.moveFile,
		"GET /v1/vms/{id}/files/archive":      f.readArchive,
		"PUT /v1/vms/{id}/files/archive":      f.writeArchive,
		"GET /v1/vms/{id}/stats":              f.stats,
		"GET /v1/vms/{id}/tunnels/{port}":     f.tunnel,
		"/v1/vms/{id}/ports/{port}":           f.proxy,
		"/v1/vms/{id}/ports/{port}/{rest...}": f.proxy,
		"GET /v1/tasks/{id}/attach":           f.attach,
	} {
		mux.Handle(pattern, answering(h))
	}
	mux.Handle("/", answering(func(_ http.ResponseWriter, r *http.Request) error {
		return types.Errorf(types.KindNotFound, "the worker has no %s %s", r.Method, r.URL.Path)
	}))
	return f.authorized(mux)
}

// answering turns a handler's error into a problem. An error after the answer
// has begun cuts the connection, so that nobody takes a part for the whole.
func answering(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &tracking{ResponseWriter: w}
		err := h(t, r)
		switch {
		case err == nil:
		case t.began:
			panic(http.ErrAbortHandler)
		default:
			problem.Write(w, r, err)
		}
	})
}

// tracking knows whether an answer has begun.
type tracking struct {
	http.ResponseWriter
	began bool
}

func (t *tracking) WriteHeader(status int) {
	t.began = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracking) Write(p []byte) (int, error) {
	t.began = true
	return t.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush and hijack.
func (t *tracking) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// authorized lets only bearers of the token in. Hashes are compared, so that
// neither content nor length of the token shows in the time it takes.
func (f *face) authorized(next http.Handler) http.Handler {
	if f.Token == "" {
		return next
	}
	want := sha256.Sum256([]byte(f.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(token))
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="aetherium worker"`)
			problem.WriteStatus(w, r, http.StatusUnauthorized, types.Errorf(types.KindInvalid, "the cluster token is missing or wrong").
				WithRemedy("give gateway and worker the same --cluster-token"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (f *face) guest(r *http.Request) (*guest.Client, error) { return f.VMs.Guest(r.PathValue("id")) }

func answerJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// readJSON decodes a body strictly.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSON))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		return types.Errorf(types.KindInvalid, "the body goes on after its JSON value")
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return types.Errorf(types.KindTooLarge, "the body is larger than %d bytes", maxJSON)
	}
	return types.Errorf(types.KindInvalid, "the body cannot be read: %w", err)
}

// stats answers what the VM uses, seen from its host and from inside.
func (f *face) stats(w http.ResponseWriter, r *http.Request) error {
	g, err := f.guest(r)
	if err != nil {
		return err
	}
	outside, err := f.VMs.Stats(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	inside, err := g.Stats(r.Context())
	if err != nil {
		return err
	}
	return answerJSON(w, statsOf(outside, inside))
}
