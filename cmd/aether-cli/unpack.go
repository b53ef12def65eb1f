package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

// receive writes a file with what fill writes: beside it and renamed, so that it
// is there whole or not at all. A device or a pipe is written to as it is.
func receive(to string, mode fs.FileMode, fill func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(to); err == nil {
		to = target // your own link is followed
	}
	if info, err := os.Stat(to); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(to, os.O_WRONLY, 0)
		if err != nil {
			return local(err)
		}
		return errors.Join(fill(f), local(f.Close()))
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".aether-cp-*")
	if err != nil {
		return local(err)
	}
	err = fill(f)
	if cerr := errors.Join(f.Chmod(mode), f.Close()); err == nil {
		err = local(cerr)
	}
	if err == nil {
		err = local(os.Rename(f.Name(), to))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// receiveFolder unpacks a VM's tar of a folder as another. The archive is
// hostile: os.Root keeps all of it inside, and nothing is made but files, folders
// and links.
func receiveFolder(to string, archive io.Reader, top string) error {
	_, err := os.Stat(to)
	u := unpacking{top: top, keep: err == nil}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return local(err)
	}
	if u.root, err = os.OpenRoot(to); err != nil {
		return local(err)
	}
	defer func() { _ = u.root.Close() }()
	return u.all(tar.NewReader(archive))
}

// unpacking takes an archive apart below a folder.
type unpacking struct {
	root *os.Root
	top  string // that each name begins with; "." for none
	keep bool   // the folder was there before
	dirs []folder
}

// folder is one whose mode is set last, or a read-only one could not be filled.
type folder struct {
	name string
	mode fs.FileMode
}

func (u *unpacking) all(r *tar.Reader) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = u.entry(h, r)
		}
		if err == nil {
			continue
		}
		if e, ok := errors.AsType[*types.Error](err); ok { // of the transfer
			return e
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
			return types.Errorf(types.KindUnavailable, "cp: the VM's archive cannot be read: %w", err)
		}
		return types.Errorf(types.KindInvalid, "cp: the VM's %q cannot be unpacked: %w", h.Name, err)
	}
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		if info, err := u.root.Lstat(d.name); err != nil || !info.IsDir() {
			continue // another entry has taken its place
		}
		if err := u.root.Chmod(d.name, d.mode); err != nil {
			return local(err)
		}
	}
	return nil
}

// place answers where an entry goes, below the folder.
func (u *unpacking) place(name string) (string, error) {
	clean := path.Clean(name)
	if u.top != "." {
		rest, ok := strings.CutPrefix(clean, u.top)
		if !ok || rest != "" && rest[0] != '/' {
			return "", errors.New("it is not in the folder that was asked for")
		}
		clean = path.Join(".", strings.TrimPrefix(rest, "/"))
	}
	if !filepath.IsLocal(clean) || strings.HasPrefix(name, "/") {
		return "", errors.New("it leaves the folder")
	}
	return clean, nil
}

func (u *unpacking) entry(h *tar.Header, r io.Reader) error {
	name, err := u.place(h.Name)
	if err != nil {
		return err
	}
	if dir := path.Dir(name); dir != "." {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	mode := h.FileInfo().Mode().Perm() // setuid and the like are the VM's own
	switch h.Typeflag {
	case tar.TypeDir:
		return u.folder(name, mode)
	case tar.TypeSymlink:
		if err := u.clear(name); err != nil {
			return err
		}
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		return u.file(name, mode, h, r)
	}
	return fmt.Errorf("it is neither file, folder nor link")
}

func (u *unpacking) folder(name string, mode fs.FileMode) error {
	if info, err := u.root.Lstat(name); err == nil && info.IsDir() && (name != "." || u.keep) {
		return nil // yours stays as it is
	}
	u.dirs = append(u.dirs, folder{name, mode})
	return u.root.MkdirAll(name, 0o755)
}

// clear makes way for an entry: what is there is replaced, never written through.
func (u *unpacking) clear(name string) error {
	info, err := u.root.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("a folder is in its place")
	}
	return u.root.Remove(name)
}

func (u *unpacking) file(name string, mode fs.FileMode, h *tar.Header, r io.Reader) error {
	if err := u.clear(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return u.root.Chtimes(name, h.ModTime, h.ModTime)
}
