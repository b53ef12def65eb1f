package client

import (
	"bufio"
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
func (c *Client) subscribe(ctx context.Context, r request, fn func(message) error) error {
	again, reached := c.retry(), false
	r.header = http.Header{"Accept": {"text/event-stream"}}
	for {
		var connected time.Time
		resp, err := c.once(ctx, r, nil)
		if err == nil {
			reached, connected = true, time.Now()
			err = readEvents(resp.Body, func(m message) error {
				if err := fn(m); err != nil {
					return stop{err}
				}
				again.progressed()
				if m.id != "" {
					r.header.Set("Last-Event-ID", m.id)
				}
				return nil
			})
			_ = resp.Body.Close()
		}
		if end, ok := errors.AsType[stop](err); ok {
			if errors.Is(end.error, io.EOF) {
				return nil
			}
			return end.error
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case types.KindOf(err) != types.KindUnavailable, !reached && neverThere(err):
			return err
		}
		again.held(connected)
		if err := again.after(ctx, err); err != nil {
			return err
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
			if len(m.data) > 0 { // without data there is no event, says the standard
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
		return broken("the stream of events", err)
	}
	return broken("the stream of events", io.ErrUnexpectedEOF)
}

// FollowOutput hands on a task's output from an offset on until it has ended, and
// answers the task. stream may be empty for both.
func (c *Client) FollowOutput(ctx context.Context, taskID string, stream types.Stream, offset int64, fn func(types.OutputChunk) error) (types.Task, error) {
	q := outputQuery(stream, offset)
	q.Set("follow", "true")
	var ended types.Task
	err := c.subscribe(ctx, request{method: http.MethodGet, path: "/tasks/" + url.PathEscape(taskID) + "/output", query: q}, func(m message) error {
		switch m.event {
		case "output":
			var chunk types.OutputChunk
			if err := json.Unmarshal(m.data, &chunk); err != nil {
				return types.Errorf(types.KindInternal, "the server's output cannot be read: %w", err)
			}
			return fn(chunk)
		case "end":
			if err := json.Unmarshal(m.data, &ended); err != nil {
				return types.Errorf(types.KindInternal, "the server's task cannot be read: %w", err)
			}
			return io.EOF
		}
		return nil
	})
	return ended, err
}

func outputQuery(stream types.Stream, offset int64) url.Values {
	q := url.Values{"offset": {strconv.FormatInt(offset, 10)}}
	if stream != "" {
		q.Set("stream", string(stream))
	}
	return q
}

// EventFilter chooses events; empty fields choose all.
type EventFilter struct {
	VM    string // name or id
	Task  string
	Types []string
}

// Events hands on what happens from now on, until ctx ends or fn fails.
func (c *Client) Events(ctx context.Context, f EventFilter, fn func(types.Event) error) error {
	q := url.Values{"type": f.Types}
	if f.VM != "" {
		q.Set("vm", f.VM)
	}
	if f.Task != "" {
		q.Set("task", f.Task)
	}
	return c.subscribe(ctx, request{method: http.MethodGet, path: "/events", query: q}, func(m message) error {
		var e types.Event
		if err := json.Unmarshal(m.data, &e); err != nil {
			return types.Errorf(types.KindInternal, "the server's event cannot be read: %w", err)
		}
		return fn(e)
	})
}

// Output hands on the output of a task that is kept now. stream may be empty for
// both.
func (c *Client) Output(ctx context.Context, taskID string, stream types.Stream, fn func(types.OutputChunk) error) error {
	q := outputQuery(stream, 0)
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
