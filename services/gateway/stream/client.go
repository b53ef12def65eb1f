package stream

import (
	"context"
	"time"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/types"
)

// client is the WebSocket of one who is attached. It is read from the start, so
// that its going is seen while its command still waits to begin.
type client struct {
	conn   *websocket.Conn
	frames chan []byte   // reader → pump
	left   chan struct{} // closed when the client went of its own accord
	done   chan struct{} // closed when both goroutines have ended
}

// startClient reads and pings the client until its connection is closed; its
// going ends ctx by cancel.
func startClient(ctx context.Context, cancel context.CancelFunc, conn *websocket.Conn) *client {
	c := &client{conn: conn, frames: make(chan []byte, clientFrames), left: make(chan struct{}), done: make(chan struct{})}
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		c.ping(ctx)
	}()
	go func() {
		defer close(c.done)
		defer func() { <-pinged }()
		defer cancel()
		c.read(ctx)
	}()
	return c
}

// read goes on after ctx has ended, so that the closing handshake finds a reader.
func (c *client) read(ctx context.Context) {
	for {
		_, frame, err := c.conn.Read(context.WithoutCancel(ctx))
		if err != nil {
			if ctx.Err() == nil {
				close(c.left)
			}
			return
		}
		select {
		case c.frames <- frame:
		case <-ctx.Done():
		}
	}
}

// ping finds a client that went without a word.
func (c *client) ping(ctx context.Context) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		limited, cancel := context.WithTimeout(ctx, writeLimit)
		err := c.conn.Ping(limited)
		cancel()
		if err != nil && ctx.Err() == nil {
			_ = c.conn.CloseNow() // the reader sees it
			return
		}
	}
}

func (c *client) gone() bool {
	select {
	case <-c.left:
		return true
	default:
		return false
	}
}

func (c *client) wait() { <-c.done }

// send writes one message, to a client that must take it in time.
func (c *client) send(ctx context.Context, frame []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	return c.conn.Write(ctx, websocket.MessageBinary, frame)
}

// pump carries messages both ways until the worker closes, which its close code
// tells (websocket.CloseError), or the client has gone. A worker that breaks off
// is types.KindUnavailable: the command goes on without it.
func (c *client) pump(ctx context.Context, worker *websocket.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	up := make(chan struct{})
	go func() {
		defer close(up)
		for {
			select {
			case <-ctx.Done():
				return
			case frame := <-c.frames:
				if worker.Write(ctx, websocket.MessageBinary, frame) != nil {
					return
				}
			}
		}
	}()
	defer func() { <-up }()
	defer cancel()
	for {
		_, frame, err := worker.Read(ctx)
		if websocket.CloseStatus(err) != -1 {
			return err
		}
		if err != nil {
			return types.Errorf(types.KindUnavailable, "the worker broke off; attach again from the last offset: %w", err)
		}
		if err := c.send(ctx, frame); err != nil {
			return err
		}
	}
}
