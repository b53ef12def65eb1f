package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// files implements the FileService.
type files struct{}

// absolute refuses paths that would depend on where the agent happens to be.
func absolute(path string) error {
	if !filepath.IsAbs(path) {
		return fail(connect.CodeInvalidArgument, "path %q is not absolute", path)
	}
	return nil
}

// Stat implements the FileService.
func (files) Stat(_ context.Context, r *connect.Request[agentapi.StatRequest]) (*connect.Response[agentapi.StatResponse], error) {
	path := r.Msg.GetPath()
	if err := absolute(path); err != nil {
		return nil, err
	}
	stat := os.Lstat
	if r.Msg.GetFollow() {
		stat = os.Stat
	}
	info, err := stat(path)
	if err != nil {
		return nil, failOS(err)
	}
	return connect.NewResponse(&agentapi.StatResponse{File: describe(path, info)}), nil
}

func describe(path string, info fs.FileInfo) *agentapi.FileInfo {
	f := &agentapi.FileInfo{
		Name: filepath.Base(path), Path: path, Size: info.Size(), Mode: unixMode(info.Mode()),
		Type: fileType(info.Mode()), ModifiedAt: timestamppb.New(info.ModTime()),
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		f.Uid, f.Gid = st.Uid, st.Gid
	}
	if f.GetType() == "symlink" {
		f.LinkTarget, _ = os.Readlink(path)
	}
	return f
}

func fileType(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "dir"
	case m&fs.ModeSymlink != 0:
		return "symlink"
	case m&fs.ModeNamedPipe != 0:
		return "fifo"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

// unixMode is Go's mode as chmod(2) has it.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, flag := range map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX} {
		if m&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

func goMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX} {
		if mode&flag != 0 {
			m |= bit
		}
	}
	return m
}

// ListDir implements the FileService.
func (files) ListDir(_ context.Context, r *connect.Request[agentapi.ListDirRequest], out *connect.ServerStream[agentapi.ListDirResponse]) error {
	dir := r.Msg.GetPath()
	if err := absolute(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return failOS(err)
	}
	const batch = 200
	for group := range slices.Chunk(entries, batch) {
		m := &agentapi.ListDirResponse{}
		for _, e := range group {
			if info, err := e.Info(); err == nil { // else it is gone by now
				m.Files = append(m.Files, describe(filepath.Join(dir, e.Name()), info))
			}
		}
		if err := out.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// Read implements the FileService.
func (files) Read(_ context.Context, r *connect.Request[agentapi.ReadRequest], out *connect.ServerStream[agentapi.ReadResponse]) error {
	if err := absolute(r.Msg.GetPath()); err != nil {
		return err
	}
	// Without O_NONBLOCK a fifo would hold the call for good.
	f, err := os.OpenFile(r.Msg.GetPath(), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return failOS(err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return fail(connect.CodeFailedPrecondition, "%s is no regular file", r.Msg.GetPath())
	}
	if _, err := f.Seek(r.Msg.GetOffset(), io.SeekStart); err != nil {
		return failOS(err)
	}
	var from io.Reader = f
	if n := r.Msg.GetLength(); n > 0 {
		from = io.LimitReader(f, n)
	}
	return sendAll(from, func(b []byte) error { return out.Send(&agentapi.ReadResponse{Data: b}) })
}

// sendAll sends a reader's bytes in pieces.
func sendAll(from io.Reader, send func([]byte) error) error {
	buf := make([]byte, agentapi.MaxChunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if err := send(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failOS(err)
		}
	}
}

// Write implements the FileService.
func (files) Write(_ context.Context, in *connect.ClientStream[agentapi.WriteRequest]) (*connect.Response[agentapi.WriteResponse], error) {
	if !in.Receive() {
		return nil, missingFirst(in.Err())
	}
	first := in.Msg()
	path := first.GetPath()
	if err := absolute(path); err != nil {
		return nil, err
	}
	who, err := lookupUser(first.GetUser())
	if err != nil {
		return nil, fail(connect.CodeInvalidArgument, "user %q %v", first.GetUser(), err)
	}
	// A link is written through, as the guest would; what it leads to is replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fail(connect.CodeFailedPrecondition, "%s is no regular file", path)
	}
	if first.GetMakeParents() {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, failOS(err)
		}
	}
	n, err := replaceFile(path, first.GetMode(), who, &messages[agentapi.WriteRequest]{in: in, data: first.GetData(), of: (*agentapi.WriteRequest).GetData})
	if err != nil {
		return nil, failOS(err)
	}
	return connect.NewResponse(&agentapi.WriteResponse{Bytes: n}), nil
}

func missingFirst(err error) error {
	if err != nil {
		return err
	}
	return fail(connect.CodeInvalidArgument, "the call has no first message")
}

// replaceFile writes beside and renames, so that nobody ever sees half a file.
func replaceFile(path string, mode uint32, who account, from io.Reader) (n int64, err error) {
	if mode == 0 {
		mode = 0o644
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".aether-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if n, err = io.Copy(f, from); err != nil {
		return n, err
	}
	if who.credential() != nil {
		if err = f.Chown(int(who.uid), int(who.gid)); err != nil {
			return n, err
		}
	}
	if err = f.Chmod(goMode(mode)); err != nil {
		return n, err
	}
	if err = f.Close(); err != nil {
		return n, err
	}
	return n, os.Rename(f.Name(), path)
}

// messages reads the data of a client's stream of messages.
type messages[M any] struct {
	in   *connect.ClientStream[M]
	data []byte
	of   func(*M) []byte
}

// Read implements io.Reader.
func (m *messages[M]) Read(b []byte) (int, error) {
	for len(m.data) == 0 {
		if !m.in.Receive() {
			if err := m.in.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		m.data = m.of(m.in.Msg())
	}
	n := copy(b, m.data)
	m.data = m.data[n:]
	return n, nil
}

// MakeDir implements the FileService.
func (files) MakeDir(_ context.Context, r *connect.Request[agentapi.MakeDirRequest]) (*connect.Response[agentapi.MakeDirResponse], error) {
	path, mode := r.Msg.GetPath(), r.Msg.GetMode()
	if err := absolute(path); err != nil {
		return nil, err
	}
	if mode == 0 {
		mode = 0o755
	}
	mkdir := os.Mkdir
	if r.Msg.GetParents() {
		mkdir = os.MkdirAll
	}
	if err := mkdir(path, goMode(mode)); err != nil {
		return nil, failOS(err)
	}
	if err := os.Chmod(path, goMode(mode)); err != nil { // whatever the umask
		return nil, failOS(err)
	}
	return connect.NewResponse(&agentapi.MakeDirResponse{}), nil
}

// Remove implements the FileService.
func (files) Remove(_ context.Context, r *connect.Request[agentapi.RemoveRequest]) (*connect.Response[agentapi.RemoveResponse], error) {
	path := filepath.Clean(r.Msg.GetPath())
	if err := absolute(path); err != nil {
		return nil, err
	}
	if path == "/" {
		return nil, fail(connect.CodeInvalidArgument, "/ cannot be removed")
	}
	if _, err := os.Lstat(path); err != nil {
		return nil, failOS(err)
	}
	remove := os.Remove
	if r.Msg.GetRecursive() {
		remove = os.RemoveAll
	}
	if err := remove(path); err != nil {
		return nil, failOS(err)
	}
	return connect.NewResponse(&agentapi.RemoveResponse{}), nil
}

// Move implements the FileService.
func (files) Move(_ context.Context, r *connect.Request[agentapi.MoveRequest]) (*connect.Response[agentapi.MoveResponse], error) {
	for _, path := range []string{r.Msg.GetFrom(), r.Msg.GetTo()} {
		if err := absolute(path); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(r.Msg.GetFrom(), r.Msg.GetTo()); err != nil {
		return nil, failOS(err)
	}
	return connect.NewResponse(&agentapi.MoveResponse{}), nil
}
