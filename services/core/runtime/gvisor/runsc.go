package gvisor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// runsc is the program and where it keeps its own state.
type runsc struct {
	path string
	root string
}

// command prepares a call. Its streams are files, never pipes: a sandbox that is
// detached keeps its parent's standard output for all its life, and a pipe would
// never see its end.
func (c runsc) command(ctx context.Context, args ...string) *exec.Cmd {
	flags := []string{
		"--root=" + c.root,
		"--platform=systrap",
		"--network=sandbox",
		// The guest may make sockets that the host connects to, as the agent does, and
		// connects to none of the host's.
		"--host-uds=create",
		// Writes go to the VM's own disk, which has a size, not to memory.
		"--overlay2=none",
		// Nobody else changes what is mounted.
		"--file-access=exclusive",
		"--file-access-mounts=exclusive",
		"--cpu-num-from-quota",
	}
	cmd := exec.CommandContext(ctx, c.path, append(flags, args...)...)
	// A Ctrl-C at the server's terminal is not for runsc.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Its start is a large part of every create; collecting garbage in a process
	// that lives for a moment is a waste.
	cmd.Env = append(os.Environ(), "GOGC=off")
	return cmd
}

// run calls runsc and answers an error with what it wrote.
func (c runsc) run(ctx context.Context, args ...string) error {
	said, err := os.CreateTemp(c.root, ".said-*")
	if err != nil {
		return err
	}
	defer func() {
		_ = said.Close()
		_ = os.Remove(said.Name())
	}()
	cmd := c.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("runsc %s: %w: %s", args[0], err, tail(said.Name()))
	}
	return nil
}

// tail is the last of what a file says, on one line.
func tail(path string) string {
	const most = 600
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func (c runsc) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, c.path, "--version").Output()
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return strings.TrimPrefix(string(line), "runsc version "), nil
}

// trial runs "agent --version" in a sandbox that has nothing else, and answers
// what it printed.
func (c runsc) trial(ctx context.Context, agent string) (string, error) {
	dir, err := os.MkdirTemp(c.root, ".trial-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		return "", err
	}
	spec := specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Args: []string{"/agent", "--version"}, Cwd: "/", NoNewPrivileges: true},
		Root:    &specs.Root{Path: rootfs, Readonly: true},
		Mounts:  []specs.Mount{{Destination: "/agent", Type: "bind", Source: agent, Options: []string{"bind", "ro"}}},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.MountNamespace}}},
	}
	b, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(rootfs, "agent"), nil, 0o755) // the place to mount at
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600)
	}
	if err != nil {
		return "", err
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		return "", err
	}
	defer func() { _ = out.Close() }()
	cmd := c.command(ctx, "run", "--bundle", dir, filepath.Base(dir)[1:])
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, tail(out.Name()))
	}
	return tail(out.Name()), nil
}
