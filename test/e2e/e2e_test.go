// Package e2e tests the built programs as a user runs them: the CLI against the
// embedded platform, and against a gateway and two workers as processes of their
// own on PostgreSQL and Redis.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// bin answers a built program.
func bin(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs bin/%s: make build", name)
	}
	return path
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces, mounts and cgroups")
	}
}

// process is a server that the test runs.
type process struct {
	cmd *exec.Cmd
	log string
}

// launch starts a server and waits until it is ready.
func launch(t testing.TB, log string, args ...string) *process {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(bin(t, "aetherium"), args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &process{cmd, log}
}

// end ends a server with a signal and waits for it.
func (p *process) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	_ = p.cmd.Process.Signal(sig)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
		t.Errorf("%v did not end within 30 s of %v", p.cmd.Args, sig)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-tick.C
	}
}

// platform is a running platform and the CLI for it.
type platform struct {
	t       testing.TB
	url     string
	dir     string
	restart func()
	server  *process
}

var subnets = make(chan int, 64)

func init() { //nolint:gochecknoinits // a pool of networks for the platforms of this run
	for i := range 60 {
		subnets <- i
	}
}

// place is a data folder with a network of its own.
func place(t testing.TB) (dir string, args []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ae2e")
	if err != nil {
		t.Fatal(err)
	}
	n := <-subnets
	args = []string{"--data-dir", dir, "--bridge", fmt.Sprintf("ae2e%d", n), "--subnet", fmt.Sprintf("10.214.%d.0/24", n)}
	t.Cleanup(func() {
		out, err := exec.Command(bin(t, "aetherium"), append([]string{"cleanup"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("cleanup: %v\n%s", err, out)
		}
		if out, _ := exec.Command("sh", "-c", "grep "+dir+" /proc/mounts; pgrep -fa 'runsc.*"+dir+"' | grep -v pgrep").CombinedOutput(); len(out) > 0 {
			t.Errorf("left behind:\n%s", out)
		}
		_ = os.RemoveAll(dir)
	})
	return dir, args
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// embedded starts aetherium up.
func embedded(t testing.TB) *platform {
	t.Helper()
	needRoot(t)
	dir, args := place(t)
	listen := freePort(t)
	p := &platform{t: t, url: "http://" + listen, dir: dir}
	log := filepath.Join(dir, "up.log")
	p.restart = func() {
		p.server = launch(t, log, append([]string{"up", "--listen", listen}, args...)...)
		p.ready()
	}
	p.restart()
	t.Cleanup(func() {
		p.server.end(t, syscall.SIGTERM)
		p.showLog(log)
	})
	return p
}

func (p *platform) showLog(log string) {
	if !p.t.Failed() {
		return
	}
	b, _ := os.ReadFile(log)
	p.t.Logf("the server said, last:\n%s", b[max(0, len(b)-4000):])
}

func (p *platform) ready() {
	p.t.Helper()
	eventually(p.t, "the platform is ready and has a proven worker", func() bool {
		var list struct{ Items []types.Worker }
		if status, err := p.get("/api/v1/workers", &list); err != nil || status != http.StatusOK || len(list.Items) == 0 {
			return false
		}
		for _, w := range list.Items {
			if w.State == types.WorkerReady && len(w.Runtimes) > 0 && w.Runtimes[0].Proven {
				return true
			}
		}
		return false
	})
}

func (p *platform) get(path string, v any) (int, error) {
	resp, err := http.Get(p.url + path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, json.NewDecoder(resp.Body).Decode(v)
}

// post sends JSON and answers the status and the decoded answer.
func (p *platform) post(path, body string) (int, map[string]any) {
	p.t.Helper()
	return p.send(http.MethodPost, path, strings.NewReader(body))
}

func (p *platform) send(method, path string, body io.Reader) (int, map[string]any) {
	p.t.Helper()
	req, err := http.NewRequest(method, p.url+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var v map[string]any
	b, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(b, &v); err != nil && len(b) > 0 {
		p.t.Fatalf("%s %s answers %d and no JSON: %s", method, path, resp.StatusCode, b)
	}
	return resp.StatusCode, v
}

// outcome is how a call of the CLI ended.
type outcome struct {
	code     int
	out, err string
}

func (p *platform) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, bin(p.t, "aether-cli"), args...)
	cmd.Env = append(os.Environ(), "AETHERIUM_URL="+p.url, "XDG_CONFIG_HOME="+p.dir)
	return cmd
}

// cli runs the CLI to its end.
func (p *platform) cli(args ...string) outcome { return p.cliIn(nil, args...) }

func (p *platform) cliIn(in io.Reader, args ...string) outcome {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := p.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errOut
	err := cmd.Run()
	if ctx.Err() != nil {
		p.t.Fatalf("aether-cli %v hangs: %s%s", args, out.String(), errOut.String())
	}
	if err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// must runs the CLI, which succeeds, and answers its output.
func (p *platform) must(args ...string) string {
	p.t.Helper()
	o := p.cli(args...)
	if o.code != 0 {
		p.t.Fatalf("aether-cli %v: exit %d\n%s%s", args, o.code, o.out, o.err)
	}
	return strings.TrimSpace(o.out)
}

func (p *platform) create(name string) string {
	p.t.Helper()
	return p.must("vm", "create", name, "--memory", "256", "--disk", "512", "-o", "id")
}
