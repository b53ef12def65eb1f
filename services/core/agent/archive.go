package agent

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// Archive implements the FileService.
func (files) Archive(_ context.Context, r *connect.Request[agentapi.ArchiveRequest], out *connect.ServerStream[agentapi.ArchiveResponse]) error {
	root := filepath.Clean(r.Msg.GetPath())
	if err := absolute(root); err != nil {
		return err
	}
	if _, err := os.Lstat(root); err != nil {
		return failOS(err)
	}
	from, to := io.Pipe()
	go func() { _ = to.CloseWithError(writeTar(to, root)) }()
	defer func() { _ = from.Close() }()
	return sendAll(from, func(b []byte) error { return out.Send(&agentapi.ArchiveResponse{Data: b}) })
}

func writeTar(to io.Writer, root string) error {
	w := tar.NewWriter(to)
	parent := filepath.Dir(root)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // it went while we were on our way
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(parent, p)
		if err != nil {
			return err
		}
		if root == "/" {
			name = strings.TrimPrefix(p, "/")
			if name == "" {
				return nil
			}
		}
		return addToTar(w, p, name)
	})
	if err != nil {
		return err
	}
	return w.Close()
}

func addToTar(w *tar.Writer, p, name string) error {
	info, err := os.Lstat(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	kind := fileType(info.Mode())
	if kind != "file" && kind != "dir" && kind != "symlink" {
		return nil // sockets, fifos and devices mean nothing elsewhere
	}
	target := ""
	if kind == "symlink" {
		if target, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.Format = name, tar.FormatPAX
	if kind == "dir" {
		h.Name += "/"
	}
	if kind != "file" {
		return w.WriteHeader(h)
	}
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	// The file may shrink or grow meanwhile; its entry has the size of the header.
	n, err := io.Copy(w, io.LimitReader(f, h.Size))
	if err != nil {
		return err
	}
	_, err = io.CopyN(w, zeros{}, h.Size-n)
	return err
}

// zeros reads as zero bytes without end.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// Extract implements the FileService.
func (files) Extract(_ context.Context, in *connect.ClientStream[agentapi.ExtractRequest]) (*connect.Response[agentapi.ExtractResponse], error) {
	if !in.Receive() {
		return nil, missingFirst(in.Err())
	}
	dir := in.Msg().GetPath()
	if err := absolute(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, failOS(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, failOS(err)
	}
	defer func() { _ = root.Close() }()
	x := extraction{root: root}
	from := &messages[agentapi.ExtractRequest]{in: in, data: in.Msg().GetData(), of: (*agentapi.ExtractRequest).GetData}
	if err := x.all(tar.NewReader(from)); err != nil {
		return nil, failOS(err)
	}
	if _, err := io.Copy(io.Discard, from); err != nil { // what may follow the archive's end
		return nil, err
	}
	return connect.NewResponse(&agentapi.ExtractResponse{Entries: x.entries, Bytes: x.bytes}), nil
}

// extraction unpacks a tar below a folder. os.Root keeps every step of it there,
// whatever links the archive or the guest has made.
type extraction struct {
	root    *os.Root
	dirs    []*tar.Header // modes are set last, or a read-only folder could not be filled
	entries int64
	bytes   int64
}

func (x *extraction) all(r *tar.Reader) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail(connect.CodeInvalidArgument, "the archive cannot be read: %v", err)
		}
		if err := x.entry(h, r); err != nil {
			return refine(h.Name, err)
		}
		x.entries++
	}
	for _, h := range x.dirs {
		if err := x.root.Chmod(path.Clean(h.Name), goMode(uint32(h.Mode))); err != nil {
			return refine(h.Name, err)
		}
	}
	return nil
}

// refine says which entry it was.
func refine(name string, err error) error {
	var known *connect.Error
	if errors.As(err, &known) {
		return err
	}
	code := failOS(err).Code()
	if code == connect.CodeInternal && !errors.Is(err, unix.EIO) {
		code = connect.CodeInvalidArgument // os.Root's own refusal of an escape
	}
	return fail(code, "entry %q: %v", name, err)
}

func (x *extraction) entry(h *tar.Header, r io.Reader) error {
	if !filepath.IsLocal(h.Name) {
		return fail(connect.CodeInvalidArgument, "entry %q leaves the folder", h.Name)
	}
	name := path.Clean(h.Name)
	if name == "." {
		return nil
	}
	if parent := path.Dir(name); parent != "." {
		if err := x.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if info, err := x.root.Lstat(name); err == nil && info.IsDir() {
			return nil
		}
		x.dirs = append(x.dirs, h)
		return x.root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		return x.file(name, h, r)
	case tar.TypeSymlink:
		if err := x.clear(name); err != nil {
			return err
		}
		return x.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		if !filepath.IsLocal(h.Linkname) {
			return fail(connect.CodeInvalidArgument, "entry %q is a link that leaves the folder", h.Name)
		}
		if err := x.clear(name); err != nil {
			return err
		}
		return x.root.Link(path.Clean(h.Linkname), name)
	}
	return fail(connect.CodeInvalidArgument, "entry %q is neither file, folder nor link", h.Name)
}

// clear makes way for an entry: what is there is replaced, never written through.
func (x *extraction) clear(name string) error {
	info, err := x.root.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fail(connect.CodeFailedPrecondition, "entry %q: a folder is in its place", name)
	}
	return x.root.Remove(name)
}

func (x *extraction) file(name string, h *tar.Header, r io.Reader) (err error) {
	if err := x.clear(name); err != nil {
		return err
	}
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	n, err := io.Copy(f, r)
	x.bytes += n
	if err != nil {
		return err
	}
	if err := f.Chmod(goMode(uint32(h.Mode))); err != nil {
		return err
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}
