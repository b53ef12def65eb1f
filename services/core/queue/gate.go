package queue

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// idlePoll is how often an idle consumer looks at its queues without having
// been woken. It bounds what a lost wake costs. Each look is one script a queue,
// which the in-process Redis needs 0.7 ms of CPU for.
const idlePoll = 400 * time.Millisecond

// outagePause keeps a consumer from hammering a Redis that is away.
const outagePause = 100 * time.Millisecond

// gate makes Asynq's polling cheap and prompt. Asynq looks for work by running
// one script a queue, pauses for its TaskCheckInterval, and looks again: short
// intervals burn CPU while idle, long ones delay every task. The gate is a hook
// on the consumer's Redis client that lets those scripts pass while there is
// work; after a whole round that found nothing it holds the next one back until
// an Enqueue has published a wake, or idlePoll has gone by.
//
// It knows Asynq's dequeue script by its keys. Should they change some day, the
// gate matches nothing and plain polling remains.
type gate struct {
	wake   chan struct{} // Enqueue → the processor's goroutine; holds one wake
	opened chan struct{} // closed by open: nothing is held back any more
	once   sync.Once

	// Only Asynq's one processor goroutine runs the script, so these need no lock.
	queues int // scripts in a round
	empty  int // scripts since the last one that found something
	failed bool
}

func newGate(queues int) *gate {
	return &gate{wake: make(chan struct{}, 1), opened: make(chan struct{}), queues: queues}
}

// open lets everything pass from now on, so that the consumer can end.
func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (g *gate) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// listen turns published wakes into signals until ctx ends.
func (g *gate) listen(ctx context.Context, client redis.UniversalClient, workerID string) {
	sub := client.Subscribe(ctx, wakeChannel(workerID))
	defer sub.Close()
	// A subscription (made, or made again) counts as a wake: there may have been
	// some before it.
	wakes := sub.ChannelWithSubscriptions()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-wakes:
			if !ok {
				return
			}
			g.signal()
		}
	}
}

func wakeChannel(workerID string) string { return "aetherium:wake:" + workerID }

// DialHook is part of redis.Hook and changes nothing.
func (g *gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessPipelineHook is part of redis.Hook and changes nothing.
func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook holds back the dequeue script of an idle consumer.
func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !isDequeue(cmd) {
			return next(ctx, cmd)
		}
		switch {
		case g.failed:
			g.hold(outagePause, nil)
		case g.empty >= g.queues:
			g.hold(idlePoll, g.wake)
			g.empty = 0
		}
		err := next(ctx, cmd)
		// An answer of Redis itself, as NOSCRIPT after a flush, is no outage.
		var answer redis.Error
		g.failed = err != nil && !errors.As(err, &answer)
		switch {
		case errors.Is(err, redis.Nil):
			g.empty++
		case err == nil:
			g.empty = 0
		}
		return err
	}
}

func (g *gate) hold(limit time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-wake:
	case <-g.opened:
	case <-t.C:
	}
}

// isDequeue recognizes EVAL or EVALSHA with the keys of rdb.dequeueCmd:
// pending, paused, active, lease.
func isDequeue(cmd redis.Cmder) bool {
	args := cmd.Args()
	if len(args) < 7 || !strings.HasPrefix(cmd.Name(), "eval") {
		return false
	}
	for i, suffix := range []string{":pending", ":paused", ":active", ":lease"} {
		key, ok := args[3+i].(string)
		if !ok || !strings.HasSuffix(key, suffix) {
			return false
		}
	}
	return true
}
