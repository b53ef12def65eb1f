package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/client/clienttest"
	"github.com/aetherium/aetherium/libs/types"
)

// describe writes what the command was given.
func describe(_ context.Context, p *clienttest.Process) types.ExecResult {
	_, _ = fmt.Fprintf(p.Stdout, "%s %q env=%v cwd=%s user=%s tty=%v stdin=%v", p.Spec.Command, p.Spec.Args, p.Spec.Env, p.Spec.Cwd, p.Spec.User, p.Spec.TTY, p.Spec.StdinOpen)
	return types.ExecResult{}
}

// TestExecLine reads the many ways to give a command.
func TestExecLine(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.server.AddVM("vm")
	c.server.Command("x", describe)
	for line, want := range map[string]string{
		"exec vm -- x":           `x [] env=map[] cwd= user= tty=false stdin=false`,
		"exec vm x":              `x [] env=map[] cwd= user= tty=false stdin=false`,
		"exec vm x -i -t -- y":   `x ["-i" "-t" "--" "y"] env=map[] cwd= user= tty=false stdin=false`,
		"exec vm -- x -e A=1 --": `x ["-e" "A=1" "--"] env=map[] cwd= user= tty=false stdin=false`,
		"exec -e A=1 vm -e B=2 -w /w -u me -- x -u": `x ["-u"] env=map[A:1 B:2] cwd=/w user=me tty=false stdin=false`,
		"exec -i vm -- x":        `x [] env=map[] cwd= user= tty=false stdin=true`,
		"exec -it vm x":          `x [] env=map[] cwd= user= tty=true stdin=true`,
		"exec vm -t -- x":        `x [] env=map[] cwd= user= tty=true stdin=false`,
		"shell vm -u me -- x -l": `x ["-l"] env=map[] cwd= user=me tty=true stdin=true`,
		"shell vm x":             `x [] env=map[] cwd= user= tty=true stdin=true`,
	} {
		if out := c.must(strings.Fields(line)...); out != want {
			t.Errorf("%s: %s", line, out)
		}
	}
	c.server.Command("/bin/sh", describe)
	if out := c.must("shell", "vm"); !strings.Contains(out, "exec bash -l") {
		t.Errorf("the usual shell: %s", out)
	}
	other := newCLI(t)
	other.server.AddVM("vm")
	other.server.Command("x", func(context.Context, *clienttest.Process) types.ExecResult { return types.ExecResult{ExitCode: 9} })
	c.fails(9, nil, "exec", "vm", "--url", other.server.URL, "--", "x") // a flag after the VM counts
}

func TestExecEnds(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.server.AddVM("vm")
	c.server.Command("say", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		_, _ = io.WriteString(p.Stdout, "out\x00\xff")
		_, _ = io.WriteString(p.Stderr, "err")
		return types.ExecResult{ExitCode: 3}
	})
	c.server.Command("cut", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		_, _ = io.WriteString(p.Stdout, "12345")
		return types.ExecResult{OutputTruncated: true, StdoutBytes: 100}
	})
	if o := c.run("exec", "vm", "--", "say"); o.code != 3 || o.out != "out\x00\xff" || o.err != "err" {
		t.Errorf("%+v", o)
	}
	if o := c.run("exec", "vm", "--", "cut"); o.code != 0 || o.out != "12345" || o.err != "aether-cli: 95 bytes of output were cut\n" {
		t.Errorf("%+v", o)
	}
	c.fails(127, []string{"aether-cli: nosuch: not found\n"}, "exec", "vm", "--", "nosuch")
	c.fails(4, []string{`no VM "none"`}, "exec", "none", "--", "say")
	id := strings.TrimSpace(c.must("exec", "-d", "-o", "id", "vm", "--", "say"))
	if o := c.run("task", "logs", "-f", id); o.code != 0 || o.out != "out\x00\xff" || o.err != "err" {
		t.Errorf("logs: %+v", o)
	}
	if o := c.run("task", "logs", id, "--stream", "stderr"); o.code != 0 || o.out != "" || o.err != "err" {
		t.Errorf("logs of stderr: %+v", o)
	}
	c.fails(4, nil, "task", "logs", "none")
}

// TestExecStdin passes what is piped in, unless told not to.
func TestExecStdin(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.server.AddVM("vm")
	c.server.Command("cat", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		_, _ = io.Copy(p.Stdout, p.Stdin)
		return types.ExecResult{}
	})
	c.server.BreakStdin = []int64{1, 70_000}
	c.server.BreakOutput = []int64{5, 100_000}
	c.in = strings.NewReader(strings.Repeat("0123456789", 20_000))
	if out := c.must("exec", "vm", "--", "cat"); out != strings.Repeat("0123456789", 20_000) {
		t.Errorf("%d bytes came back", len(out))
	}
	c.in = strings.NewReader("untouched")
	if out := c.must("exec", "-i=false", "vm", "--", "cat"); out != "" {
		t.Errorf("came back: %q", out)
	}
	if rest, _ := io.ReadAll(c.in); string(rest) != "untouched" {
		t.Errorf("left: %q", rest)
	}
}

// TestExecWithoutWebSocket follows the record where nothing can be attached.
func TestExecWithoutWebSocket(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.server.AddVM("vm")
	c.server.Command("say", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		_, _ = io.WriteString(p.Stdout, "by the record")
		return types.ExecResult{ExitCode: 6}
	})
	a := &app{world: world{out: new(bytes.Buffer), err: new(bytes.Buffer), env: func(string) string { return c.server.URL }}}
	var err error
	if a.client, err = a.dial(); err != nil {
		t.Fatal(err)
	}
	defer a.client.Close()
	task, err := a.client.Execute(t.Context(), "vm", types.ExecSpec{Command: "say"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{app: a, task: task, restore: func() {}}
	err = s.byRecord(t.Context(), 3, 0)
	if code, ok := err.(exitCode); !ok || code != 6 { //nolint:errorlint // as it is
		t.Errorf("%v", err)
	}
	if got := a.out.(*bytes.Buffer).String(); got != "by the record"[3:] {
		t.Errorf("%q", got)
	}
}

// process is the program as a process, whose output can be waited for.
type process struct {
	*exec.Cmd
	t   *testing.T
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-tick.C
	}
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

func (c *cli) start(args ...string) *process {
	c.t.Helper()
	p := &process{Cmd: c.program(args...), t: c.t}
	p.Stdout, p.Stderr = p, p
	if err := p.Start(); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// obedient says which signals come, and ends as it is told by the first.
func obedient(ctx context.Context, p *clienttest.Process) types.ExecResult {
	_, _ = io.WriteString(p.Stdout, "ready\n")
	for {
		select {
		case <-ctx.Done():
			return types.ExecResult{ExitCode: 143}
		case sig := <-p.Signals:
			_, _ = io.WriteString(p.Stdout, sig+"\n")
			if p.Spec.Args[0] == "end" {
				return types.ExecResult{ExitCode: 9}
			}
		}
	}
}

func TestCtrlC(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.server.AddVM("vm")
	c.server.Command("obey", obedient)
	for _, sig := range []struct {
		sig  os.Signal
		name string
		code int
	}{{os.Interrupt, "SIGINT", 9}, {syscall.SIGTERM, "SIGTERM", 9}, {syscall.SIGHUP, "SIGHUP", 129}} {
		p := c.start("exec", "vm", "--", "obey", "end")
		eventually(t, "the command is ready", func() bool { return strings.Contains(p.said(), "ready") })
		p.signal(sig.sig)
		_ = p.Wait()
		if code := p.ProcessState.ExitCode(); code != sig.code && code != 9 || sig.code == 9 && !strings.Contains(p.said(), sig.name) {
			t.Errorf("%s: exit %d, %q", sig.name, code, p.said())
		}
	}
	// One that does not mind: the second cancels its task.
	p := c.start("exec", "vm", "--", "obey", "not")
	eventually(t, "the command is ready", func() bool { return strings.Contains(p.said(), "ready") })
	p.signal(os.Interrupt)
	eventually(t, "the command has it", func() bool { return strings.Contains(p.said(), "SIGINT") })
	p.signal(os.Interrupt)
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("exit %d, %q", code, p.said())
	}
	canceled := 0
	for _, r := range c.server.Requests() {
		if strings.HasSuffix(r.URL.Path, "/cancel") {
			canceled++
		}
	}
	if canceled != 1 {
		t.Errorf("canceled %d times", canceled)
	}
}

// TestCtrlCWhileWaiting leaves the task alone and says so.
func TestCtrlCWhileWaiting(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.server.Handle("POST /api/v1/images", func(w http.ResponseWriter, _ *http.Request) {
		clienttest.Answer(w, map[string]any{"items": []types.Task{{ID: "pull", Type: types.TaskImagePull, State: types.TaskRunning}}})
	})
	asked := make(chan struct{}, 8)
	c.server.Handle("GET /api/v1/tasks/pull", func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	p := c.start("image", "pull", "debian:12")
	<-asked
	p.signal(os.Interrupt)
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(p.said(), "task get pull") {
		t.Errorf("exit %d, %q", code, p.said())
	}
}
