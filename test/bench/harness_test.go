//go:build bench

package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

// wait is how long the server may hold an answer.
const wait = time.Minute

// program answers a built program's path.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/" + name)
	must(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("needs bin/%s: make build", name)
	}
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run calls a program to its end.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// server is a program that serves.
type server struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

// launch starts a server that ends with the test.
func launch(t testing.TB, log, name string, args ...string) *server {
	t.Helper()
	f, err := os.Create(log)
	must(t, err)
	defer func() { _ = f.Close() }()
	s := &server{exec.Command(name, args...), make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = f, f
	must(t, s.cmd.Start())
	go func() { _ = s.cmd.Wait(); close(s.gone) }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.gone
		if t.Failed() {
			said, _ := os.ReadFile(log)
			t.Logf("%s %v said, last:\n%s", name, args, said[max(0, len(said)-2000):])
		}
	})
	return s
}

// until waits for a condition of a server's, looking every step.
func (s *server) until(t testing.TB, what string, step time.Duration, ok func() bool) {
	t.Helper()
	until(t, what, step, func() bool {
		select {
		case <-s.gone:
			t.Fatalf("%s has ended instead of: %s", s.cmd.Path, what)
		default:
		}
		return ok()
	})
}

// until waits for a condition, looking every step.
func until(t testing.TB, what string, step time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
		<-tick.C
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// folder is one with a short path: sockets in it have one of 108 bytes at most.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "aebench")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

var networks int

// network answers one that no interface of this host is on.
func network(t testing.TB) string {
	t.Helper()
	taken, err := net.InterfaceAddrs()
	must(t, err)
	for {
		networks++
		_, subnet, err := net.ParseCIDR(fmt.Sprintf("10.%d.%d.0/24", 217+networks/250, networks%250))
		must(t, err)
		if !slices.ContainsFunc(taken, func(a net.Addr) bool { return overlaps(a, subnet) }) {
			return subnet.String()
		}
	}
}

func overlaps(a net.Addr, subnet *net.IPNet) bool {
	n, ok := a.(*net.IPNet)
	return ok && (n.Contains(subnet.IP) || subnet.Contains(n.IP))
}

// place is a data folder with a network of its own, taken away with the test.
func place(t testing.TB) (dir string, flags []string) {
	t.Helper()
	dir = folder(t)
	subnet := network(t)
	flags = []string{"--data-dir", dir, "--bridge", fmt.Sprintf("aebench%d", networks), "--subnet", subnet}
	t.Cleanup(func() { run(t, program(t, "aetherium"), append([]string{"cleanup"}, flags...)...) })
	return dir, flags
}

// platform is a running platform.
type platform struct {
	*client.Client
	server *server
	url    string
}

// up starts the embedded platform.
func up(t testing.TB, extra ...string) *platform {
	t.Helper()
	dir, flags := place(t)
	listen := freePort(t)
	args := append(append([]string{"up", "--listen", listen}, flags...), extra...)
	server := launch(t, filepath.Join(dir, "log"), program(t, "aetherium"), args...)
	return connect(t, server, listen)
}

// cluster starts a gateway and a worker on a PostgreSQL and a Redis.
func cluster(t testing.TB, database, redis string) *platform {
	t.Helper()
	dir, flags := place(t)
	listen := freePort(t)
	shared := []string{"--database-url", database, "--redis-url", redis, "--cluster-token", "bench"}
	gateway := launch(t, filepath.Join(dir, "gateway.log"), program(t, "aetherium"), append([]string{"gateway", "--listen", listen}, shared...)...)
	p := connectOnly(t, gateway, listen)
	gateway.until(t, "the gateway is ready", 10*time.Millisecond, func() bool { return p.Ready(t.Context()) == nil })
	worker := launch(t, filepath.Join(dir, "worker.log"), program(t, "aetherium"), append(append([]string{"worker", "--listen", freePort(t)}, flags...), shared...)...)
	worker.until(t, "a worker has proven its runtime", 10*time.Millisecond, p.proven)
	return p
}

func connectOnly(t testing.TB, server *server, listen string) *platform {
	t.Helper()
	c, err := client.New("http://"+listen, "")
	must(t, err)
	t.Cleanup(c.Close)
	return &platform{c, server, "http://" + listen}
}

func connect(t testing.TB, server *server, listen string) *platform {
	t.Helper()
	p := connectOnly(t, server, listen)
	server.until(t, "the worker has proven its runtime", 10*time.Millisecond, p.proven)
	return p
}

func (p *platform) proven() bool {
	workers, _ := p.ListWorkers(context.Background()) // not yet answering is not yet proven
	for _, w := range workers {
		for _, r := range w.Runtimes {
			if r.Proven && w.State == types.WorkerReady {
				return true
			}
		}
	}
	return false
}

// succeeded fails the test for a task that did not end well.
func succeeded(t testing.TB, task types.Task, err error) types.Task {
	t.Helper()
	must(t, err)
	if task.State != types.TaskSucceeded {
		t.Fatalf("%s is %s: %s", task.Type, task.State, task.Reason)
	}
	return task
}

func (p *platform) create(t testing.TB, spec types.VMSpec) types.Task {
	t.Helper()
	task, err := p.CreateVM(t.Context(), spec, wait)
	return succeeded(t, task, err)
}

func (p *platform) delete(t testing.TB, vm string) {
	t.Helper()
	task, err := p.DeleteVM(t.Context(), vm, wait)
	succeeded(t, task, err)
}

func (p *platform) exec(t testing.TB, vm string) types.Task {
	t.Helper()
	task, err := p.Execute(t.Context(), vm, types.ExecSpec{Command: "/bin/true"}, wait)
	return succeeded(t, task, err)
}

// rootfs makes a small root file system of this host's own programs and the
// libraries they name: the one image that all sides run.
func rootfs(t testing.TB, dir string) {
	t.Helper()
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "run", "root"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for _, name := range []string{"/bin/sh", "/bin/true", "/bin/sleep"} {
		out, err := exec.Command("ldd", name).Output()
		must(t, err)
		install(t, name, dir)
		for word := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(word, "/") {
				install(t, word, dir)
			}
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644))
}

func install(t testing.TB, file, root string) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	to := filepath.Join(root, file)
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	if old, err := os.ReadFile(to); err == nil && bytes.Equal(old, b) {
		return
	}
	must(t, os.WriteFile(to, b, 0o755))
}
