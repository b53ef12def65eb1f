// Package client is the Go client of the REST API: what the CLI uses, and
// anybody's program can. Errors are *types.Error, as the server told them.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	base  *url.URL
	http  *http.Client
	token string
	agent string
}

// New makes a client of "http://host:port", "https://…" or "unix:///path". The
// token is sent as a bearer's; it may be empty.
func New(server, token string) (*Client, error) {
	if server == "" {
		server = DefaultURL
	}
	base, err := url.Parse(strings.TrimSuffix(server, "/"))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https" && base.Scheme != "unix") {
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
	return &Client{base: base, http: &http.Client{Transport: transport}, token: token, agent: "aetherium-client"}, nil
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
	u := *c.base
	u.RawQuery = r.query.Encode()
	s := u.String()
	path, query, _ := strings.Cut(s, "?")
	if query != "" {
		query = "?" + query
	}
	return path + "/api/v1" + r.path + query
}

// do sends a request and answers what the server did, an error if it refused. A
// call that cannot be answered for want of a connection is tried again where
// that is safe: reads, and whatever carries an idempotency key.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	var payload []byte
	if r.body != nil {
		var err error
		if payload, err = json.Marshal(r.body); err != nil {
			return nil, types.Errorf(types.KindInvalid, "encode the request: %w", err)
		}
	}
	if r.header == nil {
		r.header = http.Header{}
	}
	repeatable := r.stream == nil
	if r.method == http.MethodPost && repeatable {
		r.header.Set("Idempotency-Key", uuid.NewString())
	}
	const tries, between = 3, 200 * time.Millisecond
	for n := 1; ; n++ {
		resp, err := c.once(ctx, r, payload)
		if err == nil || !repeatable || n == tries || ctx.Err() != nil || types.KindOf(err) != types.KindUnavailable || resp != nil {
			return resp, err
		}
		if !connectionLost(err) {
			return nil, err
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (c *Client) once(ctx context.Context, r request, payload []byte) (*http.Response, error) {
	body := r.stream
	if payload != nil {
		body = bytes.NewReader(payload)
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
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem.Read(resp)
	}
	return resp, nil
}

func (c *Client) identify(h http.Header) {
	h.Set("User-Agent", c.agent)
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
}

// unreachable says what a call without an answer means.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := types.Errorf(types.KindUnavailable, "the server at %s cannot be reached: %w", c.base, err)
	if connectionRefused(err) {
		return e.WithRemedy("start it with aetherium up, or name another one with --url")
	}
	return e
}

func connectionRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// connectionLost holds for a connection that broke after it was made; a refused
// one is told at once.
func connectionLost(err error) bool {
	var u *url.Error
	return errors.As(err, &u) && !connectionRefused(err)
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
		return types.Errorf(types.KindUnavailable, "the server's answer cannot be read: %w", err)
	}
	return nil
}

// list is a page of a list.
type list[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor"`
}

// all reads every page.
func all[T any](ctx context.Context, c *Client, path string, q url.Values) ([]T, error) {
	items := []T{}
	for {
		var page list[T]
		if err := c.call(ctx, request{method: http.MethodGet, path: path, query: q}, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.NextCursor == "" {
			return items, nil
		}
		q.Set("cursor", page.NextCursor)
	}
}
