package client

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/coder/websocket"
)

const (
	stdinPiece = 32 << 10
	// stdinUnsent is how many messages are read ahead of what is sent.
	stdinUnsent = 4
	// stdinKept is how many bytes that were sent are kept to be sent again on the
	// next connection. The command's agent skips what it has. It must be more than
	// the sockets and servers between hold: two hops of at most 10 MiB with
	// Linux's defaults (tcp(7), tcp_rmem and tcp_wmem) and a megabyte of messages.
	stdinKept = 32 << 20
)

// stdin is what the command was or is to be sent: messages from the oldest that
// is kept to the newest. Attached's lock guards it.
type stdin struct {
	messages [][]byte
	bytes    int             // of messages
	sent     int             // of messages, on conn
	conn     *websocket.Conn // that they were sent on
}

func (s *stdin) add(message []byte) {
	s.messages = append(s.messages, message)
	s.bytes += len(message)
	for s.sent > 0 && s.bytes > stdinKept {
		s.bytes -= len(s.messages[0])
		s.messages[0] = nil
		s.messages = s.messages[1:]
		s.sent--
	}
}

// next answers what to send on a connection; nil if that is all.
func (s *stdin) next(conn *websocket.Conn) []byte {
	if s.conn != conn {
		s.conn, s.sent = conn, 0
	}
	if s.sent == len(s.messages) {
		return nil
	}
	return s.messages[s.sent]
}

// Stdin copies a reader to the command, then ends its standard input. It returns
// with the reader's error, or ctx's: ctx must end with Run.
func (a *Attached) Stdin(ctx context.Context, r io.Reader) error {
	defer a.wakeAt(ctx)()
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		a.sendStdin(ctx)
	}()
	err := a.readStdin(ctx, r)
	if err == nil {
		<-sending // until ctx ends: a connection may break and want all of it again
		err = ctx.Err()
	}
	return err
}

func (a *Attached) readStdin(ctx context.Context, r io.Reader) error {
	buf := make([]byte, stdinPiece)
	for at := int64(0); ; {
		n, err := r.Read(buf)
		if n > 0 {
			b := make([]byte, frameHeader, frameHeader+n)
			b[0] = frameStdin
			binary.BigEndian.PutUint64(b[1:], uint64(at)) //nolint:gosec // never negative
			a.addStdin(ctx, append(b, buf[:n]...))
			at += int64(n)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			a.addStdin(ctx, append([]byte{frameControl}, `{"stdin_eof":true}`...))
			return nil
		case err != nil:
			return err
		}
	}
}

// addStdin waits while enough is on its way.
func (a *Attached) addStdin(ctx context.Context, message []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.stdin.messages)-a.stdin.sent >= stdinUnsent && ctx.Err() == nil {
		a.changed.Wait()
	}
	a.stdin.add(message)
	a.changed.Broadcast()
}

// sendStdin sends what is read, on each new connection from the oldest on.
func (a *Attached) sendStdin(ctx context.Context) {
	for {
		a.mu.Lock()
		var message []byte
		for {
			if ctx.Err() != nil {
				a.mu.Unlock()
				return
			}
			if a.conn != nil {
				if message = a.stdin.next(a.conn); message != nil {
					break
				}
			}
			a.changed.Wait()
		}
		conn := a.conn
		a.mu.Unlock()
		if !a.write(ctx, conn, message) {
			continue
		}
		a.mu.Lock()
		a.stdin.sent++ // only this goroutine changes the connection it is counted on
		a.changed.Broadcast()
		a.mu.Unlock()
	}
}
