package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/aetherium/aetherium/libs/types"
)

func equal[T comparable](t testing.TB, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func contains(t testing.TB, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatalf("%q has no %q", text, part)
	}
}

// TestEmbedded runs on one platform, in VMs of their own.
func TestEmbedded(t *testing.T) {
	p := embedded(t)
	for name, test := range map[string]func(*testing.T, *platform){
		"taskForm": taskForm, "exit codes": exitCodes, "streams": bigStreams, "shell": shell, "copy": copies, "ports": portsAndTunnels,
		"tasks": tasks, "bad input": badInput, "lifecycle": lifecycle, "isolation": isolation, "limits": limits, "many": many, "interrupt": interrupt,
		"output over the limit": outputLimit,
	} {
		t.Run(name, func(t *testing.T) { test(t, &platform{t: t, url: p.url, dir: p.dir}) })
	}
}

// taskForm runs the commands of the documents to the letter.
func taskForm(t *testing.T, p *platform) {
	contains(t, p.must("-type", "vm:create", "-name", "form-vm"), "form-vm is running")
	id := p.must("vm", "get", "form-vm", "-o", "id")
	contains(t, p.must("-type", "vm:execute", "-vm-id", id, "-cmd", "echo", "-args", `a,"b,c",d`), "a b,c d")
	contains(t, p.must("-type", "vm:execute", "-vm-id", "form-vm", "-cmd", "git", "-args", "--version"), "git version")
	contains(t, p.must("-type", "vm:list"), "form-vm")
	p.must("-type", "vm:stop", "-vm-id", id)
	p.must("-type", "vm:start", "-vm-id", id)
	contains(t, p.must("-type", "vm:delete", "-vm-id", id), "succeeded")
	equal(t, p.cli("-type", "vm:nonsense", "-vm-id", "x").code, 2)
	equal(t, p.cli("-type", "vm:execute", "-cmd", "true").code, 2)
}

func exitCodes(t *testing.T, p *platform) {
	p.create("codes")
	equal(t, p.cli("exec", "codes", "--", "true").code, 0)
	equal(t, p.cli("exec", "codes", "--", "sh", "-c", "exit 3").code, 3)
	o := p.cli("exec", "codes", "--", "no-such-program")
	equal(t, o.code, 127)
	contains(t, o.err, "not found")
	equal(t, p.cli("exec", "codes", "--", "/etc/passwd").code, 126)
	equal(t, p.cli("exec", "codes", "--", "sh", "-c", "kill -9 $$").code, 137)
	o = p.cli("exec", "--timeout", "300ms", "codes", "--", "sleep", "60")
	equal(t, o.code, types.TraitOf(types.KindTimeout).ExitCode)
	contains(t, o.err, "time-out")
	contains(t, p.must("exec", "-e", "A=b c", "-w", "/usr", "codes", "--", "sh", "-c", "echo $A; pwd"), "b c\n/usr")
	p.must("vm", "delete", "codes")
	equal(t, p.cli("exec", "codes", "--", "true").code, types.TraitOf(types.KindNotFound).ExitCode)
}

// bigStreams sends 20 MB of noise through a command and back.
func bigStreams(t *testing.T, p *platform) {
	p.create("streams")
	noise := make([]byte, 20<<20)
	rand.New(rand.NewSource(1)).Read(noise)
	o := p.cliIn(bytes.NewReader(noise), "exec", "streams", "--", "cat")
	equal(t, o.code, 0)
	if sha256.Sum256([]byte(o.out)) != sha256.Sum256(noise) {
		t.Fatalf("%d bytes came back, not the %d that went in", len(o.out), len(noise))
	}
	p.must("vm", "delete", "streams")
}

func shell(t *testing.T, p *platform) {
	p.create("shell")
	cmd := p.command(t.Context(), "shell", "shell")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 97})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var mu sync.Mutex
	var seen bytes.Buffer
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			mu.Lock()
			seen.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	expect := func(text string) {
		t.Helper()
		eventually(t, "the shell shows "+text, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(seen.String(), text)
		})
	}
	write := func(line string) {
		t.Helper()
		if _, err := f.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	write("stty size; echo $((6*7))-is-it")
	expect("31 97")
	expect("42-is-it")
	if err := pty.Setsize(f, &pty.Winsize{Rows: 40, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shell learns its new size", func() bool {
		write("stty size")
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(seen.String(), "40 111")
	})
	write("exit 5")
	_ = cmd.Wait()
	equal(t, cmd.ProcessState.ExitCode(), 5)
	p.must("vm", "delete", "shell")
}

func copies(t *testing.T, p *platform) {
	p.create("copies")
	dir := t.TempDir()
	for name, text := range map[string]string{"src/a.txt": "alpha", "src/deep/b.txt": "beta"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.txt", filepath.Join(dir, "src/link")); err != nil {
		t.Fatal(err)
	}
	p.must("cp", filepath.Join(dir, "src"), "copies:/root/")
	equal(t, p.must("exec", "copies", "--", "sh", "-c", "cat /root/src/a.txt /root/src/deep/b.txt /root/src/link; stat -c %a /root/src/a.txt"), "alphabetaalpha640")
	p.must("cp", "copies:/root/src", filepath.Join(dir, "back"))
	b, err := os.ReadFile(filepath.Join(dir, "back/deep/b.txt"))
	if err != nil || string(b) != "beta" {
		t.Fatalf("came back as %q, %v", b, err)
	}
	equal(t, p.must("cp", "copies:/root/src/a.txt", "-"), "alpha")
	equal(t, p.cli("cp", "copies:/nowhere", dir).code, types.TraitOf(types.KindNotFound).ExitCode)
	equal(t, p.cli("cp", "a", "b").code, 2)
	// A guest that answers with an archive of its own making cannot leave the folder.
	p.must("exec", "copies", "--", "sh", "-c", "mkdir -p /root/evil && ln -s /tmp /root/evil/out && ln -s ../../.. /root/evil/up")
	p.must("cp", "copies:/root/evil", filepath.Join(dir, "evil"))
	// Neither can an archive that goes in.
	status, answer := p.send(http.MethodPut, "/api/v1/vms/copies/files/archive?path=/root/in", bytes.NewReader(escapingTar(t)))
	equal(t, status, http.StatusUnprocessableEntity)
	contains(t, fmt.Sprint(answer["detail"]), "../escaped")
	equal(t, p.cli("exec", "copies", "--", "test", "-e", "/root/escaped").code, 1)
	p.must("vm", "delete", "copies")
}

func portsAndTunnels(t *testing.T, p *platform) {
	p.create("ports")
	p.must("exec", "-d", "ports", "--", "python3", "-m", "http.server", "8000", "--directory", "/etc")
	var body string
	eventually(t, "the guest's server answers through the gateway", func() bool {
		resp, err := http.Get(p.url + "/api/v1/vms/ports/ports/8000/hostname")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		body = b.String()
		return resp.StatusCode == http.StatusOK
	})
	equal(t, strings.TrimSpace(body), "ports")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := p.command(ctx, "forward", "ports", "0:8000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	local, _, _ := strings.Cut(string(buf[:n]), " ")
	resp, err := http.Get("http://" + local + "/hostname")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	equal(t, resp.StatusCode, http.StatusOK)
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	p.must("vm", "delete", "ports")
}

func tasks(t *testing.T, p *platform) {
	p.create("tasks")
	id := p.must("exec", "-d", "-o", "id", "tasks", "--", "sh", "-c", "echo begun; exec sleep 600")
	eventually(t, "the output is there", func() bool { return strings.Contains(p.cli("task", "logs", id).out, "begun") })
	began := time.Now()
	p.must("task", "cancel", id)
	eventually(t, "the task is canceled", func() bool { return strings.Contains(p.cli("task", "get", id, "-o", "yaml").out, "state: canceled") })
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("canceling took %v", d)
	}
	equal(t, p.cli("task", "cancel", id).code, types.TraitOf(types.KindConflict).ExitCode)
	id = p.must("exec", "-d", "-o", "id", "tasks", "--", "sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.1; done")
	equal(t, p.must("task", "logs", "-f", id), "line 1\nline 2\nline 3")
	contains(t, p.must("task", "list", "--vm", "tasks"), "vm:execute")
	p.must("vm", "delete", "tasks")
}

func badInput(t *testing.T, p *platform) {
	p.create("bad")
	for name, c := range map[string]struct {
		path, body string
		status     int
		field      string
	}{
		"unknown field": {"/api/v1/vms", `{"nam":"x"}`, 422, "nam"},
		"wrong type":    {"/api/v1/vms", `{"vcpus":"two"}`, 422, "vcpus"},
		"no JSON":       {"/api/v1/vms", `{`, 400, ""},
		"long name":     {"/api/v1/vms", `{"name":"` + strings.Repeat("a", 64) + `"}`, 422, "name"},
		"odd name":      {"/api/v1/vms", `{"name":"My VM"}`, 422, "name"},
		"taken name":    {"/api/v1/vms", `{"name":"bad"}`, 409, "name"},
		"negative size": {"/api/v1/vms", `{"memory_mib":-1}`, 422, "memory_mib"},
		"absurd size":   {"/api/v1/vms", `{"vcpus":100000}`, 422, "vcpus"},
		"odd image":     {"/api/v1/vms", `{"image":"UPPER CASE"}`, 422, "image"},
		"no command":    {"/api/v1/vms/bad/execute", `{}`, 422, "command"},
		"no such VM":    {"/api/v1/vms/none/execute", `{"command":"true"}`, 404, ""},
		"odd wait":      {"/api/v1/vms/bad/execute?wait=soon", `{"command":"true"}`, 422, "wait"},
		"large body":    {"/api/v1/vms/bad/execute", `{"command":"true","stdin":"` + strings.Repeat("x", 2<<20) + `"}`, 413, ""},
	} {
		status, answer := p.post(c.path, c.body)
		if status != c.status || fmt.Sprint(answer["field"]) != c.field && (c.field != "" || answer["field"] != nil) {
			t.Errorf("%s: %d %v, want %d and field %q", name, status, answer, c.status, c.field)
		}
	}
	// More than any worker has: accepted, waits with the reason, and can be canceled.
	status, task := p.post("/api/v1/vms", `{"name":"huge","memory_mib":1000000}`)
	equal(t, status, http.StatusAccepted)
	id := fmt.Sprint(task["id"])
	eventually(t, "the reason is told", func() bool { return strings.Contains(p.cli("task", "get", id).out, "more than any worker has") })
	p.must("task", "cancel", id)
	equal(t, p.cli("vm", "get", "huge").code, types.TraitOf(types.KindNotFound).ExitCode)
	o := p.cli("vm", "create", "unreachable", "--image", "127.0.0.1:1/none:latest")
	if o.code == 0 {
		t.Error("an image of an unreachable registry became a VM")
	}
	p.must("vm", "stop", "bad")
	o = p.cli("exec", "bad", "--", "true")
	equal(t, o.code, types.TraitOf(types.KindConflict).ExitCode)
	contains(t, o.err, "start the VM first")
	var codes [2]int
	var both sync.WaitGroup
	for i := range codes {
		both.Go(func() { codes[i] = p.cli("vm", "delete", "bad").code })
	}
	both.Wait()
	if codes[0] != 0 && codes[1] != 0 {
		t.Errorf("two clients that delete at once: %v", codes)
	}
}

func lifecycle(t *testing.T, p *platform) {
	p.create("life")
	p.must("exec", "life", "--", "sh", "-c", "echo kept > /root/f")
	p.must("vm", "pause", "life")
	p.must("vm", "resume", "life")
	p.must("vm", "stop", "life")
	p.must("vm", "start", "life")
	equal(t, p.must("exec", "life", "--", "cat", "/root/f"), "kept")
	p.must("vm", "delete", "life")
}

func isolation(t *testing.T, p *platform) {
	p.create("isolated")
	for _, path := range []string{"/etc/shadow", "/root/.ssh", "/var/run/docker.sock", p.dir} {
		equal(t, p.cli("exec", "isolated", "--", "test", "-e", path).code, 1)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(p.url, "http://"), ":")
	o := p.cli("exec", "--timeout", "5s", "isolated", "--", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port)
	if o.code == 0 {
		t.Error("the guest reaches the host's loopback")
	}
	p.must("vm", "delete", "isolated")
}

func limits(t *testing.T, p *platform) {
	p.must("vm", "create", "limits", "--memory", "128", "--disk", "64")
	o := p.cli("exec", "limits", "--", "dd", "if=/dev/zero", "of=/root/fill", "bs=1M", "count=200")
	contains(t, o.err, "No space left")
	o = p.cli("exec", "limits", "--", "sh", "-c", "a=x; while :; do a=$a$a; done")
	if o.code == 0 {
		t.Errorf("a memory hog ended well: %+v", o)
	}
	eventually(t, "the VM lives or says why not", func() bool {
		if p.cli("exec", "limits", "--", "true").code == 0 {
			return true
		}
		return strings.Contains(p.cli("vm", "get", "limits", "-o", "yaml").out, "out_of_memory")
	})
	p.must("vm", "delete", "limits")
}

// many creates VMs at once and deletes them at once.
func many(t *testing.T, p *platform) {
	const n = 12
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			name := fmt.Sprintf("many-%d", i)
			if o := p.cli("vm", "create", name, "--memory", "128", "--disk", "128"); o.code != 0 {
				t.Errorf("%s: %s", name, o.err)
				return
			}
			if o := p.cli("exec", name, "--", "hostname"); strings.TrimSpace(o.out) != name {
				t.Errorf("%s calls itself %q: %s", name, o.out, o.err)
			}
			if o := p.cli("vm", "delete", name); o.code != 0 {
				t.Errorf("delete %s: %s", name, o.err)
			}
		})
	}
	all.Wait()
}

// interrupt sends a Ctrl-C to the CLI: the command gets it.
func interrupt(t *testing.T, p *platform) {
	p.create("interrupt")
	cmd := p.command(t.Context(), "exec", "interrupt", "--", "sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done")
	var out bytes.Buffer
	var mu sync.Mutex
	cmd.Stdout = lockedWriter{&mu, &out}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := func(text string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(out.String(), text)
		}
	}
	eventually(t, "the command is ready", seen("ready"))
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	equal(t, cmd.ProcessState.ExitCode(), 9)
	contains(t, out.String(), "caught")
	p.must("vm", "delete", "interrupt")
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// outputLimit floods a task's record: it is cut and counted, the beginning kept.
func outputLimit(t *testing.T, p *platform) {
	p.create("flood")
	status, task := p.post("/api/v1/vms/flood/execute?wait=2m", `{"command":"sh","args":["-c","echo first; head -c 1073741824 /dev/zero"],"output_limit_bytes":1048576}`)
	equal(t, status, http.StatusOK)
	result := task["result"].(map[string]any)
	equal(t, fmt.Sprint(result["output_truncated"]), "true")
	equal(t, result["stdout_bytes"].(float64), float64(1<<30+6))
	contains(t, fmt.Sprint(result["stdout"]), "first")
	o := p.cli("task", "logs", fmt.Sprint(task["id"]))
	if n := len(o.out); n > 1<<20 || n < 1<<19 {
		t.Errorf("%d bytes are kept", n)
	}
	p.must("vm", "delete", "flood")
}

func TestRefusals(t *testing.T) {
	p := embedded(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(p.url, "http://"), ":")
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"same data folder": {[]string{"up", "--data-dir", p.dir, "--listen", freePort(t)}, "another aetherium is using this folder"},
		"port in use":      {[]string{"up", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:" + port}, "in use"},
		"open to all":      {[]string{"up", "--data-dir", t.TempDir(), "--listen", "0.0.0.0:0"}, "--insecure-open"},
		"odd subnet":       {[]string{"up", "--data-dir", t.TempDir(), "--subnet", "all"}, "subnet"},
		"no database":      {[]string{"gateway"}, "database-url"},
		"no token":         {[]string{"worker", "--database-url", "postgres://x", "--redis-url", "redis://x", "--data-dir", t.TempDir()}, "cluster-token"},
	} {
		cmd := exec.Command(bin(t, "aetherium"), c.args...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: exit %d\n%s", name, cmd.ProcessState.ExitCode(), out)
		}
	}
}

// TestKilled kills the platform while a command runs: the same process goes on,
// and its task ends with all of its output.
func TestKilled(t *testing.T) {
	p := embedded(t)
	p.create("durable")
	id := p.must("exec", "-d", "-o", "id", "durable", "--", "sh", "-c", "echo pid $$; for i in $(seq 40); do echo line $i; sleep 0.1; done; echo pid $$")
	eventually(t, "it runs", func() bool { return strings.Contains(p.cli("task", "logs", id).out, "line 3") })
	p.server.end(t, syscall.SIGKILL)
	p.restart()
	out := p.must("task", "logs", "-f", id)
	lines := strings.Split(out, "\n")
	equal(t, len(lines), 42)
	equal(t, lines[0], lines[41])
	for i := 1; i <= 40; i++ {
		equal(t, lines[i], fmt.Sprintf("line %d", i))
	}
	contains(t, p.must("task", "get", id, "-o", "yaml"), "state: succeeded")
	p.must("vm", "delete", "durable")
}
