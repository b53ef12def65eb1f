package client

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/common/problem"
)

// webSocket opens a WebSocket of the API.
func (c *Client) webSocket(ctx context.Context, path string, q url.Values, protocols ...string) (*websocket.Conn, error) {
	header := http.Header{}
	c.identify(header)
	conn, resp, err := websocket.Dial(ctx, c.url(request{path: path, query: q}), &websocket.DialOptions{
		HTTPClient: c.http, HTTPHeader: header, Subprotocols: protocols,
	})
	if err != nil {
		if resp != nil && resp.StatusCode >= http.StatusBadRequest {
			return nil, problem.Read(resp)
		}
		return nil, c.unreachable(ctx, err)
	}
	const most = 8 << 20
	conn.SetReadLimit(most)
	return conn, nil
}

// Tunnel opens a TCP connection to a port inside a VM. It outlives ctx.
func (c *Client) Tunnel(ctx context.Context, vm string, port int) (net.Conn, error) {
	conn, err := c.webSocket(ctx, vmPath(vm, "tunnels", strconv.Itoa(port)), nil)
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.WithoutCancel(ctx), conn, websocket.MessageBinary), nil
}
