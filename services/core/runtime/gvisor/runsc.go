package gvisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// command prepares a call.
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
	// A Ctrl-C at the server's terminal is not for runsc, nor for what it leaves.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{
		// All that it gets: the gofer keeps its environment, and the worker's has secrets.
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		// Its start is a large part of every create, and collecting garbage in a process
		// that lives for a moment a waste; the gofer, which lives on, has a limit.
		"GOGC=off", "GOMEMLIMIT=48MiB",
	}
	return cmd
}

// run calls runsc for something that leaves no process behind, and answers an
// error with what it wrote.
func (c runsc) run(ctx context.Context, args ...string) error {
	if out, err := c.command(ctx, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("runsc %s: %w: %s", args[0], cause(ctx, err), lastWords(out))
	}
	return nil
}

// start starts a VM's sandbox and leaves it running. Whatever runsc has as its
// standard output the guest's first process has too, for all its life: so it is
// a file on the VM's own disk, which has a limit. Never a pipe: nobody would
// read it, or see its end.
func (c runsc) start(ctx context.Context, v vm) error {
	console, err := os.OpenFile(v.path(consoleLog), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = console.Close() }()
	cmd := c.command(ctx, "--panic-log="+v.path(panicLog), "run", "--detach", "--bundle", v.dir, v.id)
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("runsc run: %w: %s", cause(ctx, err), tail(console.Name()))
	}
	return nil
}

// What the VM's processes say outside, on the VM's disk beside the guest's files.
const (
	consoleLog = "disk/console.log" // runsc and the agent
	panicLog   = "disk/panic.log"   // gVisor's kernel, when it breaks
)

// cause is the context's error where that ended a command: "signal: killed" says
// nothing.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// forget removes what runsc keeps of a container whose processes are gone: state,
// lock and control socket. The socket is elsewhere where the root's path is too
// long for one: createControlSocket of gVisor's runsc/sandbox.
func (c runsc) forget(id string) error {
	names, err := filepath.Glob(filepath.Join(c.root, id+"_sandbox:"+id+".*"))
	if err != nil {
		return err
	}
	for _, dir := range []string{c.root, "/var/run", "/run", "/tmp"} {
		names = append(names, filepath.Join(dir, "runsc-"+id+".sock"))
	}
	var errs []error
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// wordsMost bounds what is quoted of a program's output, in bytes.
const wordsMost = 600

// tail is the last of what a file says. A guest may have written to it.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > wordsMost {
		_, _ = f.Seek(-wordsMost, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, wordsMost))
	return lastWords(b)
}

// lastWords is the end of a text as one valid line.
func lastWords(b []byte) string {
	if len(b) > wordsMost {
		b = b[len(b)-wordsMost:]
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "�")), " ")
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
