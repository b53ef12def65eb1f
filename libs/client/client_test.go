package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/client/clienttest"
	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"localhost:8080", "ftp://x", "http://", "://", "unix://host/path", "unix://"} {
		if _, err := client.New(bad, ""); types.KindOf(err) != types.KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"", "http://x", "https://x:1/prefix/", "unix:///run/x.sock"} {
		c, err := client.New(good, "")
		if err != nil {
			t.Errorf("%q: %v", good, err)
			continue
		}
		c.Close()
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	s.PageSize = 2
	for i := range 5 {
		s.AddVM(fmt.Sprintf("vm-%d", i))
	}
	c := dial(t, s)
	vms, err := c.ListVMs(t.Context(), client.VMFilter{})
	if err != nil || len(vms) != 5 || vms[4].Name != "vm-4" {
		t.Fatalf("%d VMs, %v", len(vms), err)
	}
	before := len(s.Requests())
	for _, err := range c.VMs(t.Context(), client.VMFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if n := len(s.Requests()) - before; n != 1 {
		t.Errorf("for one VM, %d pages were read", n)
	}
}

func TestErrorsAreTheServers(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	c := dial(t, s)
	_, err := c.CreateVM(t.Context(), types.VMSpec{Name: "My VM"}, 0)
	e, ok := errors.AsType[*types.Error](err)
	if !ok || e.Kind != types.KindInvalid || e.Field != "name" || e.Value != "My VM" || e.Remedy == "" {
		t.Errorf("one bad field: %#v", err)
	}
	_, err = c.CreateVM(t.Context(), types.VMSpec{Name: "My VM", VCPUs: -1}, 0)
	all, ok := errors.AsType[types.FieldErrors](err)
	if !ok || len(all) != 2 {
		t.Errorf("two bad fields: %#v", err)
	}
	if _, err := c.GetVM(t.Context(), "a/b ?c"); types.KindOf(err) != types.KindNotFound || !strings.Contains(err.Error(), "a/b ?c") {
		t.Errorf("a name that needs escaping: %v", err)
	}
}

// TestLostAnswer breaks the connection before the answer: what carries a key is
// asked again with the same key, an upload is not.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	var creates, uploads atomic.Int32
	s.Handle("POST /api/v1/images", func(w http.ResponseWriter, _ *http.Request) {
		if creates.Add(1) < 3 {
			panic(http.ErrAbortHandler)
		}
		clienttest.Answer(w, map[string]any{"items": []types.Task{}})
	})
	s.Handle("PUT /api/v1/vms/{vm}/files", func(http.ResponseWriter, *http.Request) {
		uploads.Add(1)
		panic(http.ErrAbortHandler)
	})
	c := dial(t, s)
	if _, err := c.PullImage(t.Context(), "debian:12", ""); err != nil {
		t.Fatal(err)
	}
	keys := map[string]int{}
	for _, r := range s.Requests() {
		keys[r.Header.Get("Idempotency-Key")]++
	}
	if len(keys) != 1 || keys[""] != 0 {
		t.Errorf("keys: %v", keys)
	}
	if err := c.WriteFile(t.Context(), "vm", "/f", 0, strings.NewReader("x")); types.KindOf(err) != types.KindUnavailable || uploads.Load() != 1 {
		t.Errorf("upload: %v after %d tries", err, uploads.Load())
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	c, err := client.New("http://127.0.0.1:1", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.GetVM(t.Context(), "vm")
	e := types.AsError(err)
	if e.Kind != types.KindUnavailable || !strings.Contains(e.Message, "http://127.0.0.1:1 ") || !strings.Contains(e.Remedy, "aetherium up") {
		t.Errorf("%#v", e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.GetVM(ctx, "vm"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestServerThatIsGone gives up once patience is over.
func TestServerThatIsGone(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	s.Handle("GET /api/v1/workers", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	c := dial(t, s)
	c.SetPatience(100 * time.Millisecond)
	if _, err := c.ListWorkers(t.Context()); types.KindOf(err) != types.KindUnavailable {
		t.Error(err)
	}
	if n := len(s.Requests()); n < 2 {
		t.Errorf("%d tries", n)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var authorization atomic.Pointer[string]
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Get("Authorization")
		authorization.Store(&h)
		problem.Write(w, r, types.Errorf(types.KindForbidden, "not you"))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	defer func() { _ = server.Close(); <-done }()
	c, err := client.New("unix://"+path, "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ready(t.Context()); types.KindOf(err) != types.KindForbidden {
		t.Error(err)
	}
	if h := authorization.Load(); h == nil || *h != "Bearer secret" {
		t.Error("the token was not sent")
	}
	gone, err := client.New("unix:///nowhere.sock", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "unix:///nowhere.sock") {
		t.Error(err)
	}
}

// TestTransferErrors tells whose fault a broken transfer is.
func TestTransferErrors(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	s.Handle("GET /api/v1/vms/{vm}/files", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "half")
	})
	s.Handle("PUT /api/v1/vms/{vm}/files", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	c := dial(t, s)
	var got strings.Builder
	if err := c.ReadFile(t.Context(), "vm", "/f", &got); types.KindOf(err) != types.KindUnavailable || got.String() != "half" {
		t.Errorf("a part of a file: %q, %v", got.String(), err)
	}
	full := errors.New("disk full")
	if err := c.ReadFile(t.Context(), "vm", "/f", broken{full}); !errors.Is(err, full) {
		t.Errorf("our own disk: %v", err)
	}
	if err := c.WriteFile(t.Context(), "vm", "/f", 0, broken{full}); !errors.Is(err, full) {
		t.Errorf("our own file: %v", err)
	}
}

type broken struct{ error }

func (b broken) Read([]byte) (int, error)  { return 0, b.error }
func (b broken) Write([]byte) (int, error) { return 0, b.error }

// TestWaitPastARestart waits for a task whose server goes away meanwhile.
func TestWaitPastARestart(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	var asked atomic.Int32
	s.Handle("GET /api/v1/tasks/a-task", func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			clienttest.Answer(w, types.Task{ID: "a-task", State: types.TaskRunning})
		case 2, 3:
			panic(http.ErrAbortHandler)
		default:
			clienttest.Answer(w, types.Task{ID: "a-task", State: types.TaskSucceeded})
		}
	})
	c := dial(t, s)
	told := 0
	task, err := c.WaitTask(t.Context(), types.Task{ID: "a-task", State: types.TaskPending}, func(types.Task) { told++ })
	if err != nil || task.State != types.TaskSucceeded || told != 2 {
		t.Errorf("%v, %v, told %d times", task.State, err, told)
	}
}
