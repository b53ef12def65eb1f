package client

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// FileInfo is a file of a VM.
type FileInfo struct {
	Name       string    `json:"name"`
	Path       string    `json:"path"`
	Size       int64     `json:"size"`
	Mode       string    `json:"mode"` // octal
	Type       string    `json:"type"` // file, dir, symlink, device, fifo, socket
	LinkTarget string    `json:"link_target,omitempty"`
	ModifiedAt time.Time `json:"modified_at"`
	UID        uint32    `json:"uid"`
	GID        uint32    `json:"gid"`
}

// Permissions are the mode's lower nine bits; what a VM says beyond them (setuid
// and the like) means nothing elsewhere.
func (f FileInfo) Permissions() fs.FileMode {
	mode, err := strconv.ParseUint(f.Mode, 8, 32)
	if err != nil {
		const usual = 0o644
		return usual
	}
	return fs.FileMode(mode) & fs.ModePerm
}

// Stat describes a file of a VM; a link is looked through.
func (c *Client) Stat(ctx context.Context, vm, path string) (FileInfo, error) {
	return c.stat(ctx, vm, path, true)
}

// Lstat describes a file of a VM; a link is described itself.
func (c *Client) Lstat(ctx context.Context, vm, path string) (FileInfo, error) {
	return c.stat(ctx, vm, path, false)
}

func (c *Client) stat(ctx context.Context, vm, path string, follow bool) (FileInfo, error) {
	var f FileInfo
	q := url.Values{"path": {path}, "follow": {strconv.FormatBool(follow)}}
	err := c.call(ctx, request{method: http.MethodGet, path: vmPath(vm, "files", "info"), query: q}, &f)
	return f, err
}

// ListFiles answers what is in a folder of a VM.
func (c *Client) ListFiles(ctx context.Context, vm, path string) ([]FileInfo, error) {
	var files list[FileInfo]
	err := c.call(ctx, request{method: http.MethodGet, path: vmPath(vm, "files", "list"), query: url.Values{"path": {path}}}, &files)
	return files.Items, err
}

// MakeDir makes a folder of a VM, with the folders it is in if parents is set.
// Mode zero is the agent's default.
func (c *Client) MakeDir(ctx context.Context, vm, path string, mode uint32, parents bool) error {
	return c.call(ctx, request{method: http.MethodPost, path: vmPath(vm, "files", "mkdir"), body: struct {
		Path    string `json:"path"`
		Mode    string `json:"mode,omitempty"`
		Parents bool   `json:"parents,omitempty"`
	}{path, octal(mode), parents}}, nil)
}

// Remove removes a file of a VM; a folder that is not empty only if recursive.
func (c *Client) Remove(ctx context.Context, vm, path string, recursive bool) error {
	q := url.Values{"path": {path}, "recursive": {strconv.FormatBool(recursive)}}
	return c.call(ctx, request{method: http.MethodDelete, path: vmPath(vm, "files"), query: q}, nil)
}

// Move renames a file or folder of a VM.
func (c *Client) Move(ctx context.Context, vm, from, to string) error {
	return c.call(ctx, request{method: http.MethodPost, path: vmPath(vm, "files", "move"), body: struct {
		From string `json:"from"`
		To   string `json:"to"`
	}{from, to}}, nil)
}

func octal(mode uint32) string {
	if mode == 0 {
		return ""
	}
	return fmt.Sprintf("%04o", mode)
}

// ReadFile copies a file of a VM to w.
func (c *Client) ReadFile(ctx context.Context, vm, path string, w io.Writer) error {
	return c.download(ctx, request{method: http.MethodGet, path: vmPath(vm, "files"), query: url.Values{"path": {path}}}, w)
}

// WriteFile makes a file of a VM from r, with its parent folders.
func (c *Client) WriteFile(ctx context.Context, vm, path string, mode uint32, r io.Reader) error {
	q := url.Values{"path": {path}, "parents": {"true"}}
	if mode != 0 {
		q.Set("mode", octal(mode))
	}
	return c.call(ctx, request{method: http.MethodPut, path: vmPath(vm, "files"), query: q, stream: r}, nil)
}

// Archive writes a tar of a path of a VM to w. It is the VM's: extract it with
// care.
func (c *Client) Archive(ctx context.Context, vm, path string, w io.Writer) error {
	return c.download(ctx, request{method: http.MethodGet, path: vmPath(vm, "files", "archive"), query: url.Values{"path": {path}}}, w)
}

// Extract unpacks a tar into a folder of a VM.
func (c *Client) Extract(ctx context.Context, vm, dir string, r io.Reader) error {
	return c.call(ctx, request{method: http.MethodPut, path: vmPath(vm, "files", "archive"), query: url.Values{"path": {dir}}, stream: r}, nil)
}

func (c *Client) download(ctx context.Context, r request, w io.Writer) error {
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	to := &sink{writer: w}
	if _, err := io.Copy(to, resp.Body); err != nil && to.err == nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return broken("the transfer", err)
	}
	return to.err
}

// sink keeps its writer's error apart from the connection's.
type sink struct {
	writer io.Writer
	err    error
}

func (s *sink) Write(p []byte) (int, error) {
	var n int
	n, s.err = s.writer.Write(p)
	return n, s.err
}
