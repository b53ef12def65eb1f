package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// FileInfo is a file of a VM.
type FileInfo struct {
	Name       string    `json:"name"`
	Path       string    `json:"path"`
	Size       int64     `json:"size"`
	Mode       string    `json:"mode"` // octal
	Type       string    `json:"type"` // file, dir, symlink, device, fifo, socket
	LinkTarget string    `json:"link_target"`
	ModifiedAt time.Time `json:"modified_at"`
}

// Stat describes a file of a VM; a link is looked through.
func (c *Client) Stat(ctx context.Context, vm, path string) (FileInfo, error) {
	var f FileInfo
	err := c.call(ctx, request{method: http.MethodGet, path: vmPath(vm, "files", "info"), query: url.Values{"path": {path}, "follow": {"true"}}}, &f)
	return f, err
}

// ReadFile copies a file of a VM to w.
func (c *Client) ReadFile(ctx context.Context, vm, path string, w io.Writer) error {
	return c.download(ctx, request{method: http.MethodGet, path: vmPath(vm, "files"), query: url.Values{"path": {path}}}, w)
}

// WriteFile makes a file of a VM from r, with its parent folders.
func (c *Client) WriteFile(ctx context.Context, vm, path string, mode uint32, r io.Reader) error {
	q := url.Values{"path": {path}, "parents": {"true"}}
	if mode != 0 {
		q.Set("mode", fmt.Sprintf("%04o", mode))
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
	if _, err := io.Copy(w, resp.Body); err != nil {
		return types.Errorf(types.KindUnavailable, "the transfer broke off: %w", err)
	}
	return nil
}
