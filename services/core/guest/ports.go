package guest

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"connectrpc.com/connect"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// DialPort opens a TCP connection to a port on the guest's loopback. It is a full
// net.Conn with deadlines, and can be closed for writing alone. ctx bounds the
// opening only.
func (c *Client) DialPort(ctx context.Context, port uint16) (net.Conn, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, cancel)
	stream := c.ports.Dial(life)
	err := stream.Send(&agentapi.DialRequest{Port: uint32(port)})
	var first *agentapi.DialResponse
	if err == nil || errors.Is(err, io.EOF) {
		first, err = stream.Receive()
	}
	if !opening() && err == nil {
		err = ctx.Err()
	}
	if err != nil || !first.GetConnected() {
		cancel()
		return nil, typed("dial the guest", err)
	}
	// A pipe of the kernel's gives deadlines and half-close for nothing.
	outer, inner, err := socketPair()
	if err != nil {
		cancel()
		return nil, typed("dial the guest", err)
	}
	go sendTo(stream, inner)
	go func() {
		receiveFrom(stream, inner)
		_ = inner.Close()
		cancel()
	}()
	return &portConn{UnixConn: outer, end: cancel}, nil
}

// portConn ends its stream some time after it is closed: what was written before
// is still carried.
type portConn struct {
	*net.UnixConn
	end context.CancelFunc
}

const lastBytes = 2 * time.Second

// Close implements net.Conn.
func (c *portConn) Close() error {
	time.AfterFunc(lastBytes, c.end)
	return c.UnixConn.Close()
}

type dialStream = connect.BidiStreamForClient[agentapi.DialRequest, agentapi.DialResponse]

func sendTo(stream *dialStream, from *net.UnixConn) {
	buf := make([]byte, agentapi.MaxChunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if stream.Send(&agentapi.DialRequest{Data: buf[:n]}) != nil {
				return
			}
		}
		if err != nil {
			_ = stream.CloseRequest()
			return
		}
	}
}

func receiveFrom(stream *dialStream, to *net.UnixConn) {
	for {
		m, err := stream.Receive()
		if err != nil {
			return
		}
		if _, err := to.Write(m.GetData()); err != nil {
			return
		}
		if m.GetEof() {
			_ = to.CloseWrite()
		}
	}
}
