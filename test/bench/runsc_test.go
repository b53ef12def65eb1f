//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/aetherium/aetherium/services/core/agent/agentbin"
	"github.com/aetherium/aetherium/services/core/guest"
)

// bareRunsc is runsc by itself: no network, no cgroup, no disk of its own, just a
// sandbox with the agent on a root file system.
type bareRunsc struct {
	program, agent, root, dir string
}

func newBareRunsc(t testing.TB, root string) *bareRunsc {
	t.Helper()
	dir := folder(t)
	agent, err := agentbin.Extract(filepath.Join(dir, "agent"))
	must(t, err)
	for _, d := range []string{"run/agent", "run/sock"} {
		must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	return &bareRunsc{program: program(t, "runsc"), agent: agent, root: root, dir: dir}
}

func (b *bareRunsc) runsc(t testing.TB, args ...string) {
	t.Helper()
	said, err := os.OpenFile(filepath.Join(b.dir, "said"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	must(t, err)
	defer func() { _ = said.Close() }()
	flags := []string{"--root", filepath.Join(b.dir, "state"), "--platform=systrap", "--network=none", "--host-uds=create", "--overlay2=none", "--ignore-cgroups"}
	cmd := exec.Command(b.program, append(flags, args...)...)
	cmd.Stdout, cmd.Stderr = said, said // a file: a detached sandbox would hold a pipe open
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(said.Name())
		t.Fatalf("runsc %v: %v\n%s", args, err, text)
	}
}

// bundle writes what runsc needs for one sandbox.
func (b *bareRunsc) bundle(t testing.TB, id string) string {
	t.Helper()
	dir := filepath.Join(b.dir, id)
	must(t, os.MkdirAll(filepath.Join(dir, "sock"), 0o755))
	config, err := json.Marshal(specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: b.root, Readonly: true},
		Process: &specs.Process{Args: []string{"/run/agent/" + filepath.Base(b.agent), "--listen", "unix:/run/sock/agent.sock"}, Env: []string{"PATH=/bin"}, Cwd: "/"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/run/agent", Type: "bind", Source: filepath.Dir(b.agent), Options: []string{"rbind", "ro"}},
			{Destination: "/run/sock", Type: "bind", Source: filepath.Join(dir, "sock"), Options: []string{"rbind", "rw"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace},
		}},
	})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	return dir
}

// create makes a sandbox and returns once its agent answers.
func (b *bareRunsc) create(t testing.TB, id string) {
	t.Helper()
	dir := b.bundle(t, id)
	b.runsc(t, "create", "--bundle", dir, id)
	b.runsc(t, "start", id)
	g := guest.New(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "sock/agent.sock"))
	})
	defer g.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := g.WaitReady(ctx, guest.Hello{Hostname: id})
	must(t, err)
}

func (b *bareRunsc) delete(t testing.TB, id string) {
	t.Helper()
	b.runsc(t, "delete", "--force", id)
	must(t, os.RemoveAll(filepath.Join(b.dir, id)))
}
