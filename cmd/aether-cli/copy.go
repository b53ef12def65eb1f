package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) copyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cp SOURCE DESTINATION", Short: "Copy files and folders to a VM and back", Args: cobra.ExactArgs(2),
		Long: `cp copies a file or a folder between this machine and a VM, one of the two
written as VM:PATH with an absolute path. A folder that is there takes the copy
into itself. "-" is standard input or output, for one file.`,
		Example: "  aether-cli cp ./src my-vm:/root/\n  aether-cli cp my-vm:/var/log/app.log -\n  aether-cli cp my-vm:/root/out ./out",
		RunE: func(cmd *cobra.Command, args []string) error {
			fromVM, from, fromRemote := splitRemote(args[0])
			toVM, to, toRemote := splitRemote(args[1])
			switch {
			case fromRemote && toRemote:
				return usageError{errors.New("cp: both ends are in VMs; copy to this machine first")}
			case fromRemote:
				return a.copyOut(cmd.Context(), fromVM, from, to)
			case toRemote:
				return a.copyIn(cmd.Context(), from, toVM, to)
			}
			return usageError{errors.New("cp: neither end is in a VM; write that one as VM:PATH")}
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

// copyIn copies to a VM.
func (a *app) copyIn(ctx context.Context, from, vm, to string) error {
	if from == "-" {
		return a.client.WriteFile(ctx, vm, to, 0, a.in)
	}
	info, err := os.Stat(from)
	if err != nil {
		return types.Errorf(types.KindNotFound, "cp: %w", err)
	}
	dir, name := path.Dir(path.Clean(to)), path.Base(path.Clean(to))
	// Into a folder that is there, or that the trailing slash says to make.
	if there, err := a.client.Stat(ctx, vm, to); (err == nil && there.Type == "dir") || strings.HasSuffix(to, "/") {
		dir, name = to, filepath.Base(absolute(from))
	} else if err != nil && types.KindOf(err) != types.KindNotFound {
		return err
	}
	if info.Mode().IsRegular() {
		f, err := os.Open(from)
		if err != nil {
			return types.Errorf(types.KindInvalid, "cp: %w", err)
		}
		defer func() { _ = f.Close() }()
		return a.client.WriteFile(ctx, vm, path.Join(dir, name), uint32(info.Mode().Perm()), f)
	}
	reader, writer := io.Pipe()
	go func() { _ = writer.CloseWithError(pack(writer, from, name)) }()
	defer func() { _ = reader.Close() }()
	return a.client.Extract(ctx, vm, dir, reader)
}

func absolute(p string) string {
	if abs, err := filepath.Abs(p); err == nil {
		return abs
	}
	return p
}

// pack writes a folder as a tar whose names begin with name.
func pack(to io.Writer, from, name string) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if target, err = os.Readlink(p); err != nil {
				return err
			}
		case !info.IsDir() && !info.Mode().IsRegular():
			return nil
		}
		h, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.Format = path.Join(name, filepath.ToSlash(rel)), 0, 0, "", "", tar.FormatPAX
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		_, err = io.CopyN(w, f, h.Size)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}

// copyOut copies from a VM.
func (a *app) copyOut(ctx context.Context, vm, from, to string) error {
	if to == "-" {
		return a.client.ReadFile(ctx, vm, from, a.out)
	}
	info, err := a.client.Stat(ctx, vm, from)
	if err != nil {
		return err
	}
	dir, name := filepath.Dir(filepath.Clean(to)), filepath.Base(filepath.Clean(to))
	if there, err := os.Stat(to); (err == nil && there.IsDir()) || strings.HasSuffix(to, "/") {
		dir, name = to, path.Base(path.Clean(from))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return types.Errorf(types.KindInvalid, "cp: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return types.Errorf(types.KindInvalid, "cp: %w", err)
	}
	defer func() { _ = root.Close() }()
	reader, writer := io.Pipe()
	go func() { _ = writer.CloseWithError(a.client.Archive(ctx, vm, from, writer)) }()
	defer func() { _ = reader.Close() }()
	return unpack(root, tar.NewReader(reader), path.Base(path.Clean(info.Path)), name)
}

// unpack takes a VM's tar apart below a folder. It is hostile: os.Root keeps all
// of it there, and nothing is made but files, folders and links. The first part
// of each name is replaced.
func unpack(root *os.Root, r *tar.Reader, oldName, newName string) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if e, ok := errors.AsType[*types.Error](err); ok {
				return e
			}
			return types.Errorf(types.KindUnavailable, "cp: the VM's archive cannot be read: %w", err)
		}
		name := path.Clean(h.Name)
		if rest, ok := strings.CutPrefix(name, oldName); ok && (rest == "" || rest[0] == '/') {
			name = newName + rest
		}
		if !filepath.IsLocal(name) {
			return types.Errorf(types.KindInvalid, "cp: the VM's archive has an entry %q that leaves the folder", h.Name)
		}
		if err := unpackEntry(root, name, h, r); err != nil {
			return types.Errorf(types.KindInvalid, "cp: %s: %w", name, err)
		}
	}
}

func unpackEntry(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	mode := h.FileInfo().Mode().Perm()
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		if err := root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		if info, err := root.Lstat(name); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			if err := root.Remove(name); err != nil { // never write through a link
				return err
			}
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Chmod(mode), f.Close())
	}
	return fmt.Errorf("it is neither file, folder nor link")
}
