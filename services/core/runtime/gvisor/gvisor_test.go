package gvisor_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aetherium/aetherium/services/core/image"
	"github.com/aetherium/aetherium/services/core/network"
	"github.com/aetherium/aetherium/services/core/runtime"
	"github.com/aetherium/aetherium/services/core/runtime/gvisor"
	"github.com/aetherium/aetherium/services/core/runtime/runtimetest"
)

// findRunsc looks for runsc where a checkout and a host have it.
func findRunsc(t *testing.T) string {
	t.Helper()
	for _, p := range []string{os.Getenv("AETHERIUM_RUNSC"), "../../../../bin/runsc"} {
		if p == "" {
			continue
		}
		if abs, err := filepath.Abs(p); err == nil {
			if _, err := os.Stat(abs); err == nil {
				return abs
			}
		}
	}
	p, err := exec.LookPath("runsc")
	if err != nil {
		t.Skip("needs runsc: make build, or put it on PATH")
	}
	return p
}

func buildAgent(t *testing.T) string {
	t.Helper()
	agent := filepath.Join(t.TempDir(), "aether-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", agent, "../../../../cmd/aether-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	return agent
}

func TestConformance(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces, mounts and cgroups")
	}
	runsc, agent := findRunsc(t), buildAgent(t)
	dir := t.TempDir()
	images, err := image.Open(filepath.Join(dir, "images"), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	host, err := images.Ensure(t.Context(), image.HostRef, nil)
	if err != nil {
		t.Fatal(err)
	}
	net, err := network.Open(t.Context(), network.Config{Bridge: "aethertest", Subnet: netip.MustParsePrefix("10.217.0.0/24"), StateDir: filepath.Join(dir, "net")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := net.Cleanup(context.Background()); err != nil {
			t.Error(err)
		}
	})
	runtimetest.Run(t, runtimetest.Host{
		Image: host,
		New: func() runtime.Runtime {
			rt, err := gvisor.New(gvisor.Config{DataDir: dir, RunscPath: runsc, AgentPath: agent, Network: net})
			if err != nil {
				t.Fatal(err)
			}
			return rt
		},
		Leftovers: func() []string { return leftovers(t, dir) },
	})
}

// leftovers lists what VMs of this test hold of the host.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	for name, cmd := range map[string][]string{
		"mount": {"sh", "-c", "grep " + dir + " /proc/mounts || true"}, "loop": {"sh", "-c", "losetup -l -n -O BACK-FILE | grep " + dir + " || true"},
		"link": {"sh", "-c", "ip -o link show master aethertest || true"}, "process": {"sh", "-c", "pgrep -fa 'runsc.*" + dir + "' | grep -v pgrep || true"},
		"files":  {"sh", "-c", "ls " + dir + "/vms " + dir + "/runsc " + dir + "/net/addresses"},
		"cgroup": {"sh", "-c", "ls -d /sys/fs/cgroup/*/aetherium/*/ /sys/fs/cgroup/aetherium/*/ 2>/dev/null || true"},
	} {
		out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
		for line := range strings.Lines(string(out)) {
			found = append(found, name+": "+strings.TrimSpace(line))
		}
	}
	return found
}
