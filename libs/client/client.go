// Package client is the Go client of the REST API: what the CLI uses, and
// anybody's program can. Errors are *types.Error, as the server told them.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

// DefaultURL is where an embedded platform answers.
const DefaultURL = "http://localhost:8080"

// Client calls one server.
type Client struct {
	base     *url.URL
	name     string // of the server, as it was given
	http     *http.Client
	token    string
	patience time.Duration // for a server that is gone
}

// New makes a client of "http://host:port", "https://…" or "unix:///path". The
// token is sent as a bearer's; it may be empty.
func New(server, token string) (*Client, error) {
	if server == "" {
		server = DefaultURL
	}
	base, err := url.Parse(strings.TrimSuffix(server, "/"))
	if err != nil || !reachable(base) {
		return nil, types.InvalidField("url", server, "is no server's address", "use http://host:port, https://host or unix:///path")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	if base.Scheme == "unix" {
		path := base.Path
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		base = &url.URL{Scheme: "http", Host: "localhost"}
	}
	// A server that restarts is back within half a minute.
	const patience = 30 * time.Second
	return &Client{base: base, name: server, http: &http.Client{Transport: transport}, token: token, patience: patience}, nil
}

func reachable(u *url.URL) bool {
	switch u.Scheme {
	case "http", "https":
		return u.Host != ""
	case "unix":
		return u.Host == "" && len(u.Path) > 1
	}
	return false
}

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one call.
type request struct {
	method string
	path   string // below /api/v1, its parts escaped
	query  url.Values
	header http.Header
	body   any       // sent as JSON
	stream io.Reader // or sent as it is
}

// vmPath is the path of something of a VM.
func vmPath(vm string, rest ...string) string {
	return "/vms/" + url.PathEscape(vm) + strings.Join(append([]string{""}, rest...), "/")
}

func (c *Client) url(r request) string {
	u := c.base.String() + "/api/v1" + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	return u
}

// do sends a request and answers what the server did, an error if it refused. A
// call whose connection breaks is made again where that is safe: reads, and
// whatever carries an idempotency key. A server that was never there is told at
// once.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	var payload []byte
	if r.body != nil {
		var err error
		if payload, err = json.Marshal(r.body); err != nil {
			return nil, types.Errorf(types.KindInvalid, "encode the request: %w", err)
		}
	}
	r.header = r.header.Clone()
	if r.header == nil {
		r.header = http.Header{}
	}
	repeatable := r.stream == nil
	if repeatable && (r.method == http.MethodPost || r.method == http.MethodDelete) {
		r.header.Set("Idempotency-Key", uuid.NewString())
	}
	again, broke := c.retry(), false
	for {
		resp, err := c.once(ctx, r, payload)
		if broke = broke || connectionBroke(err); !broke || !repeatable || !connection(err) {
			return resp, err
		}
		if err := again.after(ctx, err); err != nil {
			return nil, err
		}
	}
}

func (c *Client) once(ctx context.Context, r request, payload []byte) (*http.Response, error) {
	var body io.Reader
	var upload *source
	switch {
	case payload != nil:
		body = bytes.NewReader(payload)
	case r.stream != nil:
		upload = &source{reader: r.stream}
		body = upload
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.url(r), body)
	if err != nil {
		return nil, types.Errorf(types.KindInvalid, "make the request: %w", err)
	}
	req.Header = r.header.Clone()
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.identify(req.Header)
	resp, err := c.http.Do(req)
	if err != nil {
		if failed := upload.failed(); failed != nil {
			return nil, failed
		}
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem.Read(resp)
	}
	return resp, nil
}

func (c *Client) identify(h http.Header) {
	h.Set("User-Agent", "aetherium-client")
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
}

// call is do for calls that answer JSON.
func (c *Client) call(ctx context.Context, r request, answer any) error {
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if answer == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return types.Errorf(types.KindUnavailable, "the server's answer cannot be read: %w", err)
	}
	return nil
}
