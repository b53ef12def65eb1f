package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/client/clienttest"
	"github.com/aetherium/aetherium/libs/types"
)

// TestFollowResumes breaks a stream of output at bytes; it goes on by its last
// id.
func TestFollowResumes(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	s.Command("count", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		for i := range 100 {
			_, _ = fmt.Fprintf(p.Stdout, "line %02d\n", i)
		}
		return types.ExecResult{}
	})
	s.BreakOutput = []int64{1, 8, 9, 400, 799, 800}
	c := dial(t, s)
	task := begin(t, s, c, types.ExecSpec{Command: "count"})
	var out strings.Builder
	ended, err := c.FollowOutput(t.Context(), task.ID, "", 16, func(chunk types.OutputChunk) error {
		_, err := out.Write(chunk.Data)
		return err
	})
	if err != nil || ended.State != types.TaskSucceeded || ended.ID != task.ID {
		t.Fatalf("%+v, %v", ended, err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 98 || lines[0] != "line 02" || lines[97] != "line 99" {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	full := errors.New("disk full")
	if _, err := c.FollowOutput(t.Context(), task.ID, "", 0, func(types.OutputChunk) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	out.Reset()
	err = c.Output(t.Context(), task.ID, types.Stdout, func(chunk types.OutputChunk) error {
		_, err := out.Write(chunk.Data)
		return err
	})
	if err != nil || len(out.String()) != 800 {
		t.Errorf("%d bytes in pages, %v", out.Len(), err)
	}
}

// TestEventStream reads the forms that the standard allows.
func TestEventStream(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	first := make(chan string, 8)
	s.Handle("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		first <- r.URL.RawQuery + " after " + r.Header.Get("Last-Event-ID")
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Header.Get("Last-Event-ID") == "" {
			_, _ = io.WriteString(w, ": hello\r\n\r\nid: 7\r\nevent: vm.state\r\ndata: {\"id\":7,\ndata:\"type\":\"vm.state\"}\n\nid: 8\ndata: {\"id\":8")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "id: 8\ndata: {\"id\":8,\"type\":\"task.state\"}\n\nevent: empty\n\n")
	})
	c := dial(t, s)
	var got []int64
	err := c.Events(t.Context(), client.EventFilter{VM: "a b", Types: []string{"x", "y"}}, func(e types.Event) error {
		if got = append(got, e.ID); len(got) == 2 {
			return io.EOF
		}
		return nil
	})
	if err != nil || fmt.Sprint(got) != "[7 8]" {
		t.Errorf("%v, %v", got, err)
	}
	if a, b := <-first, <-first; a != "type=x&type=y&vm=a+b after " || b != "type=x&type=y&vm=a+b after 7" {
		t.Errorf("asked %q, then %q", a, b)
	}
}

// TestNoStream tells at once of a server that is not there, or refuses.
func TestNoStream(t *testing.T) {
	t.Parallel()
	gone, err := client.New("http://127.0.0.1:1", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Events(t.Context(), client.EventFilter{}, nil); types.KindOf(err) != types.KindUnavailable {
		t.Error(err)
	}
	s := clienttest.New(t)
	if _, err := dial(t, s).FollowOutput(t.Context(), "none", "", 0, nil); types.KindOf(err) != types.KindNotFound {
		t.Error(err)
	}
}
