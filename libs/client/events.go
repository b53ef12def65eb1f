package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// message is one server-sent event: WHATWG HTML, "Server-sent events".
type message struct {
	id, event string
	data      []byte
}

// subscribe reads server-sent events and hands them on, from the last id again
// whenever the connection breaks, until fn answers io.EOF or another error.
func (c *Client) subscribe(ctx context.Context, r request, last string, fn func(message) error) error {
	const between = 500 * time.Millisecond
	failures := 0
	for {
		r.header = http.Header{"Accept": {"text/event-stream"}}
		if last != "" {
			r.header.Set("Last-Event-ID", last)
		}
		resp, err := c.do(ctx, r)
		if err == nil {
			failures = 0
			err = readEvents(resp.Body, func(m message) error {
				if err := fn(m); err != nil {
					return stop{err}
				}
				if m.id != "" {
					last = m.id
				}
				return nil
			})
			_ = resp.Body.Close()
		}
		var end stop
		switch {
		case errors.As(err, &end) && errors.Is(end.error, io.EOF):
			return nil
		case errors.As(err, &end):
			return end.error
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && types.KindOf(err) != types.KindUnavailable:
			return err
		}
		const most = 60 // half a minute: a gateway that restarts is back by then
		if failures++; failures > most {
			return err
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stop is an error of whoever reads the events.
type stop struct{ error }

func readEvents(body io.Reader, fn func(message) error) error {
	const most = 8 << 20
	s := bufio.NewScanner(body)
	s.Buffer(make([]byte, 64<<10), most)
	var m message
	for s.Scan() {
		line := s.Text()
		if line == "" {
			if len(m.data) > 0 || m.event != "" {
				if err := fn(m); err != nil {
					return err
				}
			}
			m = message{}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			m.id = value
		case "event":
			m.event = value
		case "data":
			m.data = append(append(m.data, value...), '\n')
		}
	}
	if err := s.Err(); err != nil {
		return types.Errorf(types.KindUnavailable, "the stream broke off: %w", err)
	}
	return types.Errorf(types.KindUnavailable, "the stream broke off")
}

// FollowOutput hands on a task's output from an offset until it has ended, and
// answers the task. stream may be empty for both.
func (c *Client) FollowOutput(ctx context.Context, taskID string, stream types.Stream, fn func(types.OutputChunk) error) (types.Task, error) {
	q := url.Values{"follow": {"true"}}
	if stream != "" {
		q.Set("stream", string(stream))
	}
	var ended types.Task
	err := c.subscribe(ctx, request{method: http.MethodGet, path: "/tasks/" + url.PathEscape(taskID) + "/output", query: q}, "", func(m message) error {
		switch m.event {
		case "output":
			var chunk types.OutputChunk
			if err := json.Unmarshal(bytes.TrimSpace(m.data), &chunk); err != nil {
				return types.Errorf(types.KindUnavailable, "the server's output cannot be read: %w", err)
			}
			return fn(chunk)
		case "end":
			if err := json.Unmarshal(m.data, &ended); err != nil {
				return types.Errorf(types.KindUnavailable, "the server's task cannot be read: %w", err)
			}
			return io.EOF
		}
		return nil
	})
	return ended, err
}

// Events hands on what happens from now on, until ctx ends or fn fails.
func (c *Client) Events(ctx context.Context, vm, task string, fn func(types.Event) error) error {
	q := url.Values{}
	if vm != "" {
		q.Set("vm", vm)
	}
	if task != "" {
		q.Set("task", task)
	}
	return c.subscribe(ctx, request{method: http.MethodGet, path: "/events", query: q}, "", func(m message) error {
		var e types.Event
		if len(m.data) == 0 || json.Unmarshal(m.data, &e) != nil || e.Type == "" {
			return nil
		}
		return fn(e)
	})
}

// Output hands on the output of a task that is kept now.
func (c *Client) Output(ctx context.Context, taskID string, stream types.Stream, fn func(types.OutputChunk) error) error {
	q := url.Values{"offset": {"0"}}
	if stream != "" {
		q.Set("stream", string(stream))
	}
	for {
		var page struct {
			Items      []types.OutputChunk `json:"items"`
			NextOffset int64               `json:"next_offset"`
		}
		if err := c.call(ctx, request{method: http.MethodGet, path: "/tasks/" + url.PathEscape(taskID) + "/output", query: q}, &page); err != nil {
			return err
		}
		for _, chunk := range page.Items {
			if err := fn(chunk); err != nil {
				return err
			}
		}
		if len(page.Items) == 0 {
			return nil
		}
		q.Set("offset", strconv.FormatInt(page.NextOffset, 10))
	}
}
