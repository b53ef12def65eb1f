package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
)

const rounds = 50

// createAndExec measures, in turn, the platform, Docker and bare runsc on the
// same root file system: a small static agent and the host's coreutils.
func (b *bench) createAndExec() error {
	image, err := b.makeImage()
	if err != nil {
		return err
	}
	docker, err := b.startDocker(image)
	if err != nil {
		return err
	}
	s, err := b.start()
	if err != nil {
		return err
	}
	defer s.stop(b)
	ref := "docker-archive:" + image
	if _, err := s.done(http.MethodPost, "/vms", types.VMSpec{Name: "warm", Image: ref, MemoryMiB: 128, DiskMiB: 512}); err != nil {
		return err
	}
	if err := docker("run", "-d", "--name", "warm", "bench:latest", "/bin/sleep", "1000000"); err != nil {
		return err
	}
	bundle, err := b.bareBundle()
	if err != nil {
		return err
	}
	var ours, theirs, bare, execs, dockerExecs []time.Duration
	timed := func(list *[]time.Duration, do func() error) error {
		began := time.Now()
		err := do()
		*list = append(*list, time.Since(began))
		return err
	}
	for i := range rounds {
		name := fmt.Sprintf("c-%d", i)
		for _, step := range []func() error{
			func() error {
				return timed(&ours, func() error {
					_, err := s.done(http.MethodPost, "/vms", types.VMSpec{Name: name, Image: ref, MemoryMiB: 128, DiskMiB: 512})
					return err
				})
			},
			func() error { _, err := s.done(http.MethodDelete, "/vms/"+name, nil); return err },
			func() error {
				return timed(&theirs, func() error { return docker("run", "-d", "--name", name, "bench:latest", "/bin/sleep", "1000000") })
			},
			func() error { return docker("rm", "-f", name) },
			func() error { return b.bareRun(bundle, name, &bare) },
			func() error {
				return timed(&execs, func() error {
					_, err := s.done(http.MethodPost, "/vms/warm/execute", types.ExecSpec{Command: "/bin/true"})
					return err
				})
			},
			func() error { return timed(&dockerExecs, func() error { return docker("exec", "warm", "/bin/true") }) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	const create, run = "create until it can be used", "run /bin/true in it"
	b.series("create → running, HTTP to agent", create, "≤ docker run -d, ≤ 1.33 × bare runsc", ours)
	b.series("docker run -d", create, "", theirs)
	b.series("bare runsc create + start + agent dial", create, "", bare)
	b.series("exec by HTTP and queue, with wait", run, "at most half of docker exec", execs)
	b.series("docker exec", run, "", dockerExecs)
	return nil
}

// makeImage writes a docker save archive of a small root file system.
func (b *bench) makeImage() (string, error) {
	root := filepath.Join(b.dir, "root")
	script := `set -e
mkdir -p $0/bin $0/etc $0/tmp $0/root $0/proc $0/dev $0/sys $0/run
for p in sh true sleep cat ls; do cp $(readlink -f $(type -P $p)) $0/bin/$p; done
for f in $(ldd $0/bin/sh $0/bin/ls | grep -o '/[^ ]*' | grep '^/lib' | grep -v ':$' | sort -u); do mkdir -p $0$(dirname $f); cp -L $f $0$f; done
echo 'root:x:0:0:root:/root:/bin/sh' > $0/etc/passwd; echo 'root:x:0:' > $0/etc/group`
	if out, err := exec.Command("bash", "-c", script, root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make an image: %w: %s", err, out)
	}
	layer := filepath.Join(b.dir, "layer.tar")
	if out, err := exec.Command("tar", "-C", root, "--sort=name", "--mtime=@0", "-cf", layer, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("pack an image: %w: %s", err, out)
	}
	sum, err := exec.Command("sha256sum", layer).Output()
	if err != nil {
		return "", err
	}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}`, strings.Fields(string(sum))[0])
	manifest := `[{"Config":"config.json","RepoTags":["bench:latest"],"Layers":["layer.tar"]}]`
	path := filepath.Join(b.dir, "image.tar")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	w := tar.NewWriter(f)
	data, err := os.ReadFile(layer)
	if err != nil {
		return "", err
	}
	for name, content := range map[string][]byte{"config.json": []byte(config), "manifest.json": []byte(manifest), "layer.tar": data} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			return "", err
		}
		if _, err := w.Write(content); err != nil {
			return "", err
		}
	}
	return path, w.Close()
}

// startDocker starts a private engine, and answers how to call it.
func (b *bench) startDocker(image string) (func(...string) error, error) {
	dir := filepath.Join(b.dir, "docker")
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--host", socket,
		"--pidfile", filepath.Join(dir, "pid"), "--bip", "10.216.0.1/24")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	call := func(args ...string) error {
		out, err := exec.Command("docker", append([]string{"-H", socket}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("docker %s: %w: %s", args[0], err, out)
		}
		return nil
	}
	b.undo = append(b.undo, func() {
		_ = exec.Command("sh", "-c", "docker -H "+socket+" ps -aq | xargs -r docker -H "+socket+" rm -f").Run()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = exec.Command("sh", "-c", "ip link del docker0; nft delete table ip nat; nft delete table ip filter; nft delete table ip6 nat; nft delete table ip6 filter").Run()
	})
	deadline := time.Now().Add(60 * time.Second)
	for call("version") != nil {
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("dockerd does not answer after a minute: %s", said[max(0, len(said)-2000):])
		}
		time.Sleep(100 * time.Millisecond)
	}
	return call, call("load", "-i", image)
}

// bareBundle writes an OCI bundle of the agent on the same root file system.
func (b *bench) bareBundle() (string, error) {
	bundle := filepath.Join(b.dir, "bundle")
	if err := os.MkdirAll(filepath.Join(bundle, "sock"), 0o755); err != nil {
		return "", err
	}
	agent, err := filepath.Abs("services/core/agent/agentbin/dist/aether-agent-linux-amd64")
	if err != nil {
		return "", err
	}
	spec := specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: filepath.Join(b.dir, "root")},
		Process: &specs.Process{Args: []string{"/run/agent", "--listen", "unix:/run/sock/agent.sock"}, Cwd: "/"},
		Mounts: []specs.Mount{
			{Destination: "/run/agent", Type: "bind", Source: agent, Options: []string{"bind", "ro"}},
			{Destination: "/run/sock", Type: "bind", Source: filepath.Join(bundle, "sock"), Options: []string{"bind", "rw"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}}},
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	return bundle, os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600)
}

// bareRun is what any gVisor platform must pay: create, start, dial the agent.
func (b *bench) bareRun(bundle, id string, times *[]time.Duration) error {
	root := filepath.Join(b.dir, "runsc")
	runsc := func(args ...string) error {
		cmd := exec.Command("bin/runsc", append([]string{"--root=" + root, "--network=none", "--host-uds=create", "--overlay2=none"}, args...)...)
		out, err := os.Create(filepath.Join(b.dir, "runsc.out"))
		if err != nil {
			return err
		}
		defer func() { _ = out.Close() }()
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			said, _ := os.ReadFile(out.Name())
			return fmt.Errorf("runsc %v: %w: %s", args, err, said)
		}
		return nil
	}
	socket := filepath.Join(bundle, "sock/agent.sock")
	_ = os.Remove(socket)
	began := time.Now()
	if err := runsc("create", "--bundle", bundle, id); err != nil {
		return err
	}
	if err := runsc("start", id); err != nil {
		return err
	}
	c := guest.New(func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", socket) })
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	_, err := c.WaitReady(ctx, guest.Hello{})
	*times = append(*times, time.Since(began))
	c.Close()
	_ = runsc("kill", id, "KILL")
	return firstError(err, runsc("delete", "--force", id))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
