package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// lost is the cause of an error that a connection made, not the server's answer.
type lost struct{ error }

func (l lost) Unwrap() error { return l.error }

// unreachable says what a call without an answer means.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the method and the whole address
	}
	e := types.Errorf(types.KindUnavailable, "the server at %s cannot be reached: %w", c.name, lost{err})
	if neverThere(err) {
		return e.WithRemedy("start it with aetherium up, or name another one with --url")
	}
	return e
}

// broken is a connection that ended before the answer did.
func broken(what string, err error) error {
	return types.Errorf(types.KindUnavailable, "%s broke off: %w", what, lost{err})
}

// connection reports an error of the connection, not of the server.
func connection(err error) bool {
	_, ok := errors.AsType[lost](err)
	return ok
}

func neverThere(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// connectionBroke reports a connection that was there and went; a certificate
// that is refused, say, will be refused again.
func connectionBroke(err error) bool {
	if !connection(err) || neverThere(err) {
		return false
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// retry spaces out the tries to reach a server that has gone.
type retry struct {
	patience time.Duration
	since    time.Time // the first failure; zero while all is well
	pause    time.Duration
}

func (c *Client) retry() *retry { return &retry{patience: c.patience} }

// progressed says that the server is there.
func (r *retry) progressed() { r.since, r.pause = time.Time{}, 0 }

// held says how long a connection has lived that has just broken: one that stood
// for a while was there, though nothing came over it.
func (r *retry) held(connected time.Time) {
	const steady = time.Second
	if !connected.IsZero() && time.Since(connected) > steady {
		r.progressed()
	}
}

// after waits after a failure; it answers cause once patience is over, or ctx's
// error.
func (r *retry) after(ctx context.Context, cause error) error {
	const least, most = 50 * time.Millisecond, 2 * time.Second
	if r.since.IsZero() {
		r.since = time.Now()
	}
	if time.Since(r.since) > r.patience {
		return cause
	}
	r.pause = min(max(2*r.pause, least), most)
	// Clients of one gateway do not come back all at once.
	t := time.NewTimer(r.pause/2 + rand.N(r.pause/2)) //nolint:gosec // no secret
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// source is the reader of an upload. It keeps its own error, which the
// connection's would hide.
type source struct {
	reader io.Reader
	mu     sync.Mutex
	err    error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}
	return n, err
}

func (s *source) failed() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
