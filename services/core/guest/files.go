package guest

import (
	"context"
	"io"

	"connectrpc.com/connect"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// Stat describes a file of the guest; follow looks through a link.
func (c *Client) Stat(ctx context.Context, path string, follow bool) (*agentapi.FileInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r, err := c.files.Stat(ctx, connect.NewRequest(&agentapi.StatRequest{Path: path, Follow: follow}))
	if err != nil {
		return nil, typed("look at "+path, err)
	}
	return cleanInfo(r.Msg.GetFile()), nil
}

func cleanInfo(f *agentapi.FileInfo) *agentapi.FileInfo {
	f.Name, f.Path, f.LinkTarget, f.Type = clean(f.GetName()), clean(f.GetPath()), clean(f.GetLinkTarget()), clean(f.GetType())
	return f
}

// maxListed bounds a folder's listing.
const maxListed = 100_000

// ListDir lists a folder of the guest.
func (c *Client) ListDir(ctx context.Context, path string) ([]*agentapi.FileInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	stream, err := c.files.ListDir(ctx, connect.NewRequest(&agentapi.ListDirRequest{Path: path}))
	if err != nil {
		return nil, typed("list "+path, err)
	}
	defer func() { _ = stream.Close() }()
	list := []*agentapi.FileInfo{}
	for stream.Receive() && len(list) < maxListed {
		for _, f := range stream.Msg().GetFiles() {
			list = append(list, cleanInfo(f))
		}
	}
	return list, typed("list "+path, stream.Err())
}

// Read copies a file of the guest to w: length bytes from offset, all if zero.
func (c *Client) Read(ctx context.Context, path string, offset, length int64, w io.Writer) error {
	stream, err := c.files.Read(ctx, connect.NewRequest(&agentapi.ReadRequest{Path: path, Offset: offset, Length: length}))
	if err != nil {
		return typed("read "+path, err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		if _, err := w.Write(stream.Msg().GetData()); err != nil {
			return err
		}
	}
	return typed("read "+path, stream.Err())
}

// WriteOptions says where and how a file is written.
type WriteOptions struct {
	Path        string
	Mode        uint32 // 0644 if zero
	User        string // owner, as in an exec; root if empty
	MakeParents bool
}

// Write makes a file of the guest from r, whole or not at all, and answers its
// size.
func (c *Client) Write(ctx context.Context, o WriteOptions, r io.Reader) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a stream that was left unended makes the agent drop the file
	stream := c.files.Write(ctx)
	first := &agentapi.WriteRequest{Path: o.Path, Mode: o.Mode, User: o.User, MakeParents: o.MakeParents}
	sendErr := stream.Send(first)
	if sendErr == nil {
		sendErr = sendAll(r, func(b []byte) error { return stream.Send(&agentapi.WriteRequest{Data: b}) })
	}
	if readErr := sourceFailed(sendErr); readErr != nil {
		return 0, readErr
	}
	answer, err := stream.CloseAndReceive()
	if err != nil {
		return 0, typed("write "+o.Path, err)
	}
	return answer.Msg.GetBytes(), nil
}

// MakeDir makes a folder of the guest, with mode 0755 if zero.
func (c *Client) MakeDir(ctx context.Context, path string, mode uint32, parents bool) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, err := c.files.MakeDir(ctx, connect.NewRequest(&agentapi.MakeDirRequest{Path: path, Mode: mode, Parents: parents}))
	return typed("make folder "+path, err)
}

// Remove removes a file or folder of the guest.
func (c *Client) Remove(ctx context.Context, path string, recursive bool) error {
	_, err := c.files.Remove(ctx, connect.NewRequest(&agentapi.RemoveRequest{Path: path, Recursive: recursive}))
	return typed("remove "+path, err)
}

// Move renames a file or folder of the guest.
func (c *Client) Move(ctx context.Context, from, to string) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, err := c.files.Move(ctx, connect.NewRequest(&agentapi.MoveRequest{From: from, To: to}))
	return typed("move "+from, err)
}

// Archive writes a tar of a path of the guest to w. What is in it is the guest's:
// extract it with care.
func (c *Client) Archive(ctx context.Context, path string, w io.Writer) error {
	stream, err := c.files.Archive(ctx, connect.NewRequest(&agentapi.ArchiveRequest{Path: path}))
	if err != nil {
		return typed("archive "+path, err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		if _, err := w.Write(stream.Msg().GetData()); err != nil {
			return err
		}
	}
	return typed("archive "+path, stream.Err())
}

// Extract unpacks a tar into a folder of the guest, and answers how many entries
// and bytes it had.
func (c *Client) Extract(ctx context.Context, path string, r io.Reader) (entries, bytes int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := c.files.Extract(ctx)
	sendErr := stream.Send(&agentapi.ExtractRequest{Path: path})
	if sendErr == nil {
		sendErr = sendAll(r, func(b []byte) error { return stream.Send(&agentapi.ExtractRequest{Data: b}) })
	}
	if readErr := sourceFailed(sendErr); readErr != nil {
		return 0, 0, readErr
	}
	answer, err := stream.CloseAndReceive()
	if err != nil {
		return 0, 0, typed("extract into "+path, err)
	}
	return answer.Msg.GetEntries(), answer.Msg.GetBytes(), nil
}
