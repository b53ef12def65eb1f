package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"

	"connectrpc.com/connect"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// ports implements the PortService.
type ports struct{}

// Dial implements the PortService.
func (ports) Dial(ctx context.Context, stream *connect.BidiStream[agentapi.DialRequest, agentapi.DialResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	conn, err := dialLoopback(ctx, first.GetPort())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := stream.Send(&agentapi.DialResponse{Connected: true}); err != nil {
		return err
	}
	said := make(chan struct{}) // closed when the host has said all it had to say
	go func() {
		defer close(said)
		data := first.GetData()
		for {
			if _, err := conn.Write(data); err != nil {
				return
			}
			m, err := stream.Receive()
			if errors.Is(err, io.EOF) {
				_ = conn.CloseWrite()
				return
			}
			if err != nil {
				_ = conn.Close()
				return
			}
			data = m.GetData()
		}
	}()
	buf := make([]byte, agentapi.MaxChunk)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if err := stream.Send(&agentapi.DialResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			if err := stream.Send(&agentapi.DialResponse{Eof: true}); err != nil {
				return err
			}
			select {
			case <-said:
			case <-ctx.Done():
			}
			return nil
		}
		if err != nil {
			return fail(connect.CodeAborted, "connection to port %d: %v", first.GetPort(), err)
		}
	}
}

func dialLoopback(ctx context.Context, port uint32) (*net.TCPConn, error) {
	if port == 0 || port > 65535 {
		return nil, fail(connect.CodeInvalidArgument, "there is no port %d", port)
	}
	var dialer net.Dialer
	var last error
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if last == nil {
			last = err
		}
	}
	return nil, fail(connect.CodeUnavailable, "nothing in the VM answers on port %d: %v", port, last)
}
