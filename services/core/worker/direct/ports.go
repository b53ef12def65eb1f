package direct

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
)

func (f *face) port(r *http.Request) (*guest.Client, uint16, error) {
	s := r.PathValue("port")
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return nil, 0, types.InvalidField("port", s, "is no TCP port", "use a number from 1 to 65535")
	}
	g, err := f.guest(r)
	return g, uint16(n), err
}

// proxy carries an HTTP request, upgrades too, to a port of the guest. The
// guest gets neither the cluster's token nor a connection to anything else.
func (f *face) proxy(w http.ResponseWriter, r *http.Request) error {
	g, port, err := f.port(r)
	if err != nil {
		return err
	}
	prefix := "/v1/vms/" + r.PathValue("id") + "/ports/" + r.PathValue("port")
	transport := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return g.DialPort(ctx, port) },
		DisableKeepAlives:  true, // the transport lives as long as this request
		DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	proxy := httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // streams pass as they come
		ErrorLog:      nil,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = guestURL(r.URL, prefix, port)
			p.Out.Host = p.Out.URL.Host
			p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
			p.SetXForwarded()
			keepForwarded(p, "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix")
			p.Out.Header.Del("Authorization")
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if types.KindOf(err) == types.KindInternal {
				err = types.Errorf(types.KindUnavailable, "port %d of the VM: %w", port, err)
			}
			problem.Write(w, r, err)
		},
	}
	proxy.ServeHTTP(w, r)
	return nil
}

// keepForwarded lets stand what the gateway said of the client.
func keepForwarded(p *httputil.ProxyRequest, names ...string) {
	for _, name := range names {
		if v := p.In.Header.Get(name); v != "" {
			p.Out.Header.Set(name, v)
		}
	}
}

// guestURL is the URL on the guest's port: the rest of the path as it was
// escaped, and the query as it was.
func guestURL(in *url.URL, prefix string, port uint16) *url.URL {
	out := &url.URL{Scheme: "http", Host: net.JoinHostPort("localhost", strconv.Itoa(int(port))), RawQuery: in.RawQuery}
	escaped := strings.TrimPrefix(in.EscapedPath(), prefix)
	if escaped == "" {
		escaped = "/"
	}
	path, err := url.PathUnescape(escaped)
	if err != nil { // EscapedPath answers only what can be unescaped
		path = escaped
	}
	out.Path, out.RawPath = path, escaped
	return out
}

// tunnel carries the bytes of one TCP connection to a port of the guest in
// binary WebSocket messages, both ways.
func (f *face) tunnel(w http.ResponseWriter, r *http.Request) error {
	g, port, err := f.port(r)
	if err != nil {
		return err
	}
	inside, err := g.DialPort(r.Context(), port)
	if err != nil {
		return err
	}
	defer inside.Close()
	ws, err := accept(w, r, "")
	if err != nil {
		return nil // Accept has answered
	}
	defer ws.CloseNow()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	outside := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, _ = io.Copy(inside, outside)
		inside.Close()
	}()
	_, err = io.Copy(outside, inside)
	if err == nil {
		_ = ws.Close(websocket.StatusNormalClosure, "the VM closed the connection")
	}
	cancel()
	<-up
	return nil
}

// accept makes a request a WebSocket. Origins were the gateway's to check: only
// it, with the token, gets here.
func accept(w http.ResponseWriter, r *http.Request, subprotocol string) (*websocket.Conn, error) {
	opts := &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	if subprotocol != "" {
		opts.Subprotocols = []string{subprotocol}
	}
	return websocket.Accept(w, r, opts)
}
