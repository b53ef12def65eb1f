package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
)

// A layer's tar is hostile. os.Root keeps every path of it below the layer's own
// folder, whatever links come first; whatever is left (devices, attributes, the
// marks of removed files) is made by descriptor in a folder that os.Root opened.

// limits are shared by the layers of an image.
type limits struct {
	bytes, entries         int64
	usedBytes, usedEntries atomic.Int64
}

func (l *limits) entry() error {
	if l.usedEntries.Add(1) > l.entries {
		return types.Errorf(types.KindTooLarge, "the image has more than %d files", l.entries)
	}
	return nil
}

func (l *limits) write(n int64) error {
	if l.usedBytes.Add(n) > l.bytes {
		return types.Errorf(types.KindTooLarge, "the image is larger than %d MiB when it is unpacked", l.bytes>>20)
	}
	return nil
}

// Marks of the OCI image specification's layers, "Whiteouts".
const (
	whiteoutPrefix = ".wh."
	opaqueMark     = ".wh..wh..opq"
)

// extract unpacks a layer into a folder, in the form that overlayfs takes as a
// lower one: a removed file is a character device 0:0, a folder that hides what
// is below it has the attribute trusted.overlay.opaque.
func extract(from io.Reader, dir string, limit *limits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	x := &extraction{root: root, limit: limit, chown: os.Geteuid() == 0}
	r := tar.NewReader(from)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return x.finish()
		}
		if err != nil {
			return types.Errorf(types.KindInvalid, "a layer of the image cannot be read: %w", err)
		}
		if err := limit.entry(); err != nil {
			return err
		}
		if err := x.entry(h, r); err != nil {
			if _, ok := errors.AsType[*types.Error](err); ok || errors.Is(err, unix.ENOSPC) {
				return err
			}
			return types.Errorf(types.KindInvalid, "the image's entry %q cannot be unpacked: %w", h.Name, err)
		}
	}
}

type extraction struct {
	root  *os.Root
	limit *limits
	chown bool
	dirs  []*tar.Header // their modes and times are set last
}

// place is where an entry goes: a clean path below the root.
func place(name string) (string, error) {
	clean := path.Clean("/" + name)[1:]
	if strings.ContainsRune(name, 0) {
		return "", types.Errorf(types.KindInvalid, "the image has an entry %q that no file can have", name)
	}
	for part := range strings.SplitSeq(filepath.ToSlash(name), "/") {
		if part == ".." {
			return "", types.Errorf(types.KindInvalid, "the image has an entry %q that leaves its root", name)
		}
	}
	if clean == "" {
		return ".", nil
	}
	return clean, nil
}

func (x *extraction) entry(h *tar.Header, r io.Reader) error {
	name, err := place(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		x.dirs = append(x.dirs, h)
		return nil
	}
	parent, base := path.Dir(name), path.Base(name)
	if parent != "." {
		if err := x.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch {
	case base == opaqueMark:
		return x.setAttribute(parent, "trusted.overlay.opaque", "y")
	case strings.HasPrefix(base, whiteoutPrefix):
		return x.whiteout(parent, strings.TrimPrefix(base, whiteoutPrefix))
	}
	if err := x.makeWay(name, h.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs = append(x.dirs, h)
		if err := x.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return x.attributes(name, h)
	case tar.TypeReg:
		return x.file(name, h, r)
	case tar.TypeSymlink:
		if err := x.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return x.own(name, h)
	case tar.TypeLink:
		target, err := place(h.Linkname)
		if err != nil {
			return err
		}
		return x.root.Link(target, name)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		return x.node(parent, base, h)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return types.Errorf(types.KindInvalid, "the image's entry %q has the unknown type %q", h.Name, h.Typeflag)
}

// makeWay removes what an earlier entry put in this one's place. A folder stays
// for a folder.
func (x *extraction) makeWay(name string, dir bool) error {
	info, err := x.root.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if dir && info.IsDir() {
		return nil
	}
	return x.root.RemoveAll(name)
}

func (x *extraction) file(name string, h *tar.Header, r io.Reader) (err error) {
	if err := x.limit.write(h.Size); err != nil {
		return err
	}
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if x.chown {
		if err := f.Chown(h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if err := f.Chmod(modeOf(h)); err != nil { // after the owner: that clears setuid
		return err
	}
	if err := x.attributes(name, h); err != nil {
		return err
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}

func modeOf(h *tar.Header) os.FileMode {
	return h.FileInfo().Mode() & (os.ModePerm | os.ModeSetuid | os.ModeSetgid | os.ModeSticky)
}

func (x *extraction) own(name string, h *tar.Header) error {
	if !x.chown {
		return nil
	}
	return x.root.Lchown(name, h.Uid, h.Gid)
}

// finish sets what must be set last, the deepest folders first.
func (x *extraction) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		h := x.dirs[i]
		name, err := place(h.Name)
		if err != nil {
			return err
		}
		if info, err := x.root.Lstat(name); err != nil || !info.IsDir() {
			continue // a later entry took its place
		}
		if err := errors.Join(x.own(name, h), x.root.Chmod(name, modeOf(h)), x.root.Chtimes(name, h.ModTime, h.ModTime)); err != nil {
			return err
		}
	}
	return nil
}

// parentDir opens a folder for the calls that os.Root does not have.
func (x *extraction) in(dir string, do func(fd int) error) error {
	f, err := x.root.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is no folder", dir)
	}
	return do(int(f.Fd()))
}

func (x *extraction) whiteout(parent, base string) error {
	if base == "" || base == "." || base == ".." || strings.Contains(base, "/") {
		return types.Errorf(types.KindInvalid, "the image removes %q, which cannot be", base)
	}
	if err := x.makeWay(path.Join(parent, base), false); err != nil {
		return err
	}
	return x.in(parent, func(fd int) error { return unix.Mknodat(fd, base, unix.S_IFCHR, 0) })
}

// node makes a named pipe. A device is left out: what a VM needs of those, its
// runtime gives it, and one of the host's is nothing for it to have.
func (x *extraction) node(parent, base string, h *tar.Header) error {
	if h.Typeflag != tar.TypeFifo {
		return nil
	}
	return x.in(parent, func(fd int) error { return unix.Mknodat(fd, base, unix.S_IFIFO|uint32(h.Mode&0o777), 0) })
}

// attributes sets the extended ones that mean the same everywhere: those of
// users, and the capabilities of programs.
func (x *extraction) attributes(name string, h *tar.Header) error {
	const prefix = "SCHILY.xattr."
	for k, v := range h.PAXRecords {
		attr, ok := strings.CutPrefix(k, prefix)
		if !ok || (!strings.HasPrefix(attr, "user.") && attr != "security.capability") {
			continue
		}
		if err := x.setAttribute(name, attr, v); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	return nil
}

func (x *extraction) setAttribute(name, attr, value string) error {
	f, err := x.root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Fsetxattr(int(f.Fd()), attr, []byte(value), 0)
}
