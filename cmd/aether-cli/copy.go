package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) copyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cp SOURCE DESTINATION", Short: "Copy files and folders to a VM and back", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeCopy,
		Long: `cp copies a file or a folder between this machine and a VM, one of the two
written as VM:PATH with an absolute path. A folder that is there, or a path that
ends with a slash, takes the copy into itself; a source that ends with /. means
what is in the folder. "-" is standard input or output, for one file. Modes are
kept; owners become root in the VM and yourself here. A source that is a link is
followed, links inside a folder are kept as links. What a VM sends stays inside
the destination.`,
		Example: `  aether-cli cp ./src my-vm:/root/
  aether-cli cp ./src/. my-vm:/srv/app
  aether-cli cp my-vm:/root/out ./out
  aether-cli cp my-vm:/var/log/app.log - | less
  generate | aether-cli cp - my-vm:/etc/app.conf`,
		RunE: func(cmd *cobra.Command, args []string) error {
			fromVM, from, fromRemote := splitRemote(args[0])
			toVM, to, toRemote := splitRemote(args[1])
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			c := &copying{app: a}
			verb := "received"
			if toRemote {
				verb = "sent"
			}
			p := a.progress(func() string { return fmt.Sprintf("%s %.1f MiB", verb, float64(c.bytes.Load())/(1<<20)) })
			defer p.close()
			switch {
			case fromRemote && toRemote:
				return usagef("cp: both ends are in VMs; copy to this machine first")
			case fromRemote:
				return c.out(ctx, fromVM, from, to)
			case toRemote:
				return c.in(ctx, from, toVM, to)
			}
			return usagef("cp: neither end is in a VM; write that one as VM:PATH")
		},
	}
}

// splitRemote takes "VM:PATH" apart. A path that begins with / or . is this
// machine's, whatever colons it has.
func splitRemote(s string) (vm, file string, remote bool) {
	vm, file, remote = strings.Cut(s, ":")
	if !remote || strings.ContainsAny(vm, "/.") || vm == "" {
		return "", s, false
	}
	return vm, file, true
}

// copying is one copy, and how far it is.
type copying struct {
	*app
	bytes atomic.Int64
}

// Write counts.
func (c *copying) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

// local makes an error of this machine's files.
func local(err error) error {
	kind := types.KindInvalid
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		kind = types.KindNotFound
	case errors.Is(err, fs.ErrPermission):
		kind = types.KindForbidden
	}
	return types.Errorf(kind, "cp: %w", err)
}

// intoItself reports a path that names a folder to copy into.
func intoItself(p string) bool { return strings.HasSuffix(p, "/") }

// contents reports a path that means what is in a folder.
func contents(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// in copies to a VM.
func (c *copying) in(ctx context.Context, from, vm, to string) error {
	if from == "-" {
		return c.client.WriteFile(ctx, vm, to, 0, io.TeeReader(c.input(), c))
	}
	info, err := os.Stat(from)
	if err != nil {
		return local(err)
	}
	dir, name, err := c.remoteTarget(ctx, from, vm, to)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if from, err = filepath.EvalSymlinks(from); err != nil {
			return local(err)
		}
		reader, writer := io.Pipe()
		packed := make(chan struct{})
		go func() {
			defer close(packed)
			_ = writer.CloseWithError(local(pack(io.MultiWriter(writer, c), from, name)))
		}()
		defer func() { <-packed }()
		defer func() { _ = reader.Close() }()
		return c.client.Extract(ctx, vm, dir, reader)
	}
	f, err := os.Open(from)
	if err != nil {
		return local(err)
	}
	defer func() { _ = f.Close() }()
	return c.client.WriteFile(ctx, vm, path.Join(dir, name), uint32(info.Mode().Perm()), io.TeeReader(f, c))
}

// remoteTarget answers the VM's folder that a copy goes into and its name there;
// "." for a folder whose contents are meant.
func (c *copying) remoteTarget(ctx context.Context, from, vm, to string) (dir, name string, err error) {
	if contents(from) {
		return to, ".", nil
	}
	there, err := c.client.Stat(ctx, vm, to)
	if err != nil && types.KindOf(err) != types.KindNotFound {
		return "", "", err
	}
	if there.Type == "dir" || intoItself(to) {
		abs, err := filepath.Abs(from)
		return to, filepath.Base(abs), local(err)
	}
	return path.Dir(path.Clean(to)), path.Base(path.Clean(to)), nil
}

// out copies from a VM.
func (c *copying) out(ctx context.Context, vm, from, to string) error {
	if to == "-" {
		return c.client.ReadFile(ctx, vm, from, io.MultiWriter(c.app.out, c))
	}
	info, err := c.client.Stat(ctx, vm, from)
	if err != nil {
		return err
	}
	base := path.Base(path.Clean(from)) // what we asked for, not what the VM says
	if there, err := os.Stat(to); !contents(from) && base != "/" && (err == nil && there.IsDir() || intoItself(to)) {
		to = filepath.Join(to, base)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(to)), 0o755); err != nil {
		return local(err)
	}
	if info.Type != "dir" {
		return receive(to, info.Permissions(), func(w io.Writer) error {
			return c.client.ReadFile(ctx, vm, from, io.MultiWriter(w, c))
		})
	}
	if from, err = c.followed(ctx, vm, from); err != nil {
		return err
	}
	reader, writer := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_ = writer.CloseWithError(c.client.Archive(ctx, vm, from, io.MultiWriter(writer, c)))
	}()
	defer func() { <-sent }()
	defer func() { _ = reader.Close() }()
	top := path.Base(path.Clean(from))
	if top == "/" {
		top = "."
	}
	return receiveFolder(to, reader, top)
}

// followed answers the folder that a path of a VM leads to through links.
func (c *copying) followed(ctx context.Context, vm, p string) (string, error) {
	const most = 40 // as Linux has it: path_resolution(7)
	for range most {
		info, err := c.client.Lstat(ctx, vm, p)
		if err != nil || info.Type != "symlink" {
			return p, err
		}
		if path.IsAbs(info.LinkTarget) {
			p = info.LinkTarget
		} else {
			p = path.Join(path.Dir(path.Clean(p)), info.LinkTarget)
		}
	}
	return "", types.Errorf(types.KindInvalid, "cp: too many links at %s", p)
}
