package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/client/clienttest"
	"github.com/aetherium/aetherium/libs/types"
)

// begin runs a command on a server.
func begin(t *testing.T, s *clienttest.Server, c *client.Client, spec types.ExecSpec) types.Task {
	t.Helper()
	s.AddVM("vm")
	task, err := c.Execute(t.Context(), "vm", spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// TestOutputResumes breaks the connection at bytes in the middle of messages and
// between them; each byte comes once, on its own stream.
func TestOutputResumes(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	var out, errOut strings.Builder
	s.Command("count", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		for i := range 100 {
			_, _ = fmt.Fprintf(p.Stdout, "out %02d\n", i)
			_, _ = fmt.Fprintf(p.Stderr, "err %02d\n", i)
		}
		return types.ExecResult{ExitCode: 3}
	})
	s.BreakOutput = []int64{0, 1, 7, 13, 14, 500, 500, 1399, 1400}
	c := dial(t, s)
	task := begin(t, s, c, types.ExecSpec{Command: "count"})
	a := c.Attach(task.ID, &out, &errOut)
	breaks := 0
	a.OnBreak = func(error) { breaks++ }
	end, err := a.Run(t.Context())
	if err != nil || end.Result == nil || end.Result.ExitCode != 3 {
		t.Fatalf("%+v, %v", end, err)
	}
	var want [2]strings.Builder
	for i := range 100 {
		_, _ = fmt.Fprintf(&want[0], "out %02d\n", i)
		_, _ = fmt.Fprintf(&want[1], "err %02d\n", i)
	}
	if out.String() != want[0].String() || errOut.String() != want[1].String() {
		t.Errorf("stdout %q, stderr %q", out.String(), errOut.String())
	}
	if breaks != 9 || a.Cut() != 0 || a.Offset() != 1400 {
		t.Errorf("%d breaks, %d cut, offset %d", breaks, a.Cut(), a.Offset())
	}
}

// TestStdinResumes sends input past breaks that lose messages, more than is kept
// to be sent again.
func TestStdinResumes(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	s.Command("sum", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		h := sha256.New()
		n, err := io.Copy(h, p.Stdin)
		_, _ = fmt.Fprintf(p.Stdout, "%d %x %v", n, h.Sum(nil), err)
		return types.ExecResult{}
	})
	input := make([]byte, client.StdinKept+(4<<20)+17)
	rand.New(rand.NewSource(1)).Read(input)
	s.BreakStdin = []int64{1, 100_000, 5 << 20, client.StdinKept + (2 << 20), int64(len(input))}
	c := dial(t, s)
	task := begin(t, s, c, types.ExecSpec{Command: "sum", StdinOpen: true})
	var out strings.Builder
	a := c.Attach(task.ID, &out, io.Discard)
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() { sent <- a.Stdin(ctx, bytes.NewReader(input)) }()
	end, err := a.Run(ctx)
	cancel()
	if err != nil || end.Error != nil {
		t.Fatalf("%+v, %v", end, err)
	}
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("the sender ends with %v", err)
	}
	if want := fmt.Sprintf("%d %x <nil>", len(input), sha256.Sum256(input)); out.String() != want {
		t.Errorf("the command read %s, not %s", out.String(), want)
	}
}

func TestControls(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	s.Command("obey", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		_, _ = fmt.Fprintln(p.Stdout, <-p.Sizes, <-p.Signals)
		return types.ExecResult{ExitCode: 130, Signal: "SIGINT"}
	})
	c := dial(t, s)
	task := begin(t, s, c, types.ExecSpec{Command: "obey", TTY: true})
	var out strings.Builder
	a := c.Attach(task.ID, &out, io.Discard)
	told := make(chan error, 2)
	go func() { // before there is a connection
		told <- a.Resize(t.Context(), 40, 111)
		told <- a.Signal(t.Context(), "SIGINT")
	}()
	end, err := a.Run(t.Context())
	if err != nil || end.Result.ExitCode != 130 || out.String() != "[40 111] SIGINT\n" {
		t.Errorf("%+v, %v, %q", end.Result, err, out.String())
	}
	for range 2 {
		if err := <-told; err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.Signal(ctx, "SIGINT"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a signal with nobody there: %v", err)
	}
}

// TestAttachRefused answers at once what no retry can cure.
func TestAttachRefused(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	c := dial(t, s)
	if _, err := c.Attach("no-such-task", io.Discard, io.Discard).Run(t.Context()); types.KindOf(err) != types.KindNotFound {
		t.Error(err)
	}
	s.Handle("GET /api/v1/tasks/gone/attach", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	c.SetPatience(50 * time.Millisecond)
	if _, err := c.Attach("gone", io.Discard, io.Discard).Run(t.Context()); types.KindOf(err) != types.KindUnavailable {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Attach("gone", io.Discard, io.Discard).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestOutputThatCannotBeWritten ends it: no retry frees our disk.
func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	s.Command("say", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		_, _ = io.WriteString(p.Stdout, "something")
		return types.ExecResult{}
	})
	c := dial(t, s)
	task := begin(t, s, c, types.ExecSpec{Command: "say"})
	full := errors.New("disk full")
	if _, err := c.Attach(task.ID, broken{full}, io.Discard).Run(t.Context()); !errors.Is(err, full) {
		t.Error(err)
	}
}
