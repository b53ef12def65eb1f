package queue

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/aetherium/aetherium/libs/types"
)

// eventsChannel carries JSON arrays of types.Event.
const eventsChannel = "aetherium:events"

// EventResync is the type of an event that no change made: events may have been
// lost here, so read the store from the last one that you know.
const EventResync = "resync"

const (
	publishBuffer   = 1024 // batches that wait for Redis
	publishTimeout  = 2 * time.Second
	subscribeBuffer = 1024 // events that wait for a slow reader
)

// publisher sends events in the background, so that no commit waits for Redis.
type publisher struct {
	redis   redis.UniversalClient
	batches chan []types.Event // Publish → run
	cancel  context.CancelFunc
	done    chan struct{}
}

func startPublisher(ctx context.Context, client redis.UniversalClient) *publisher {
	ctx, cancel := context.WithCancel(ctx)
	p := &publisher{redis: client, batches: make(chan []types.Event, publishBuffer), cancel: cancel, done: make(chan struct{})}
	go p.run(ctx)
	return p
}

func (p *publisher) close() {
	p.cancel()
	<-p.done
}

func (p *publisher) run(ctx context.Context) {
	defer close(p.done)
	lost := false
	for {
		var batch []types.Event
		select {
		case <-ctx.Done():
			return
		case batch = <-p.batches:
		}
		for more := len(p.batches); more > 0; more-- {
			batch = append(batch, <-p.batches...)
		}
		if lost {
			batch = append(batch, resync())
		}
		if err := p.send(ctx, batch); err != nil && ctx.Err() == nil {
			slog.Debug("events could not be published; readers fall back on the store", "count", len(batch), "error", err)
			lost = true
			continue
		}
		lost = false
	}
}

func (p *publisher) send(ctx context.Context, batch []types.Event) error {
	data, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return p.redis.Publish(ctx, eventsChannel, data).Err()
}

// Publish tells every subscriber of events that the store has recorded. It
// returns at once. This is the fast path and may lose events, as when Redis is
// away; the store does not.
func (q *Queue) Publish(_ context.Context, events []types.Event) error {
	if len(events) == 0 {
		return nil
	}
	select {
	case q.events.batches <- events:
		return nil
	default:
		return types.Errorf(types.KindExhausted, "queue: %d events not published: too many wait for Redis", len(events))
	}
}

// Subscribe answers events as they are published, until ctx ends, which closes
// the channel. Where events may have been lost (a reader that is too slow, a
// connection made anew) it puts one of type EventResync. Each call holds a
// connection: subscribe once a process and fan out from there.
func (q *Queue) Subscribe(ctx context.Context) (<-chan types.Event, error) {
	sub := q.redis.Subscribe(ctx, eventsChannel)
	out := make(chan types.Event, subscribeBuffer)
	go func() {
		defer close(out)
		defer sub.Close()
		f := feed{out: out}
		messages := sub.ChannelWithSubscriptions()
		for {
			select {
			case <-ctx.Done():
				return
			case m, ok := <-messages:
				if !ok {
					return
				}
				f.take(m)
			}
		}
	}()
	return out, nil
}

// feed passes a subscription's messages on without ever waiting for the reader.
type feed struct {
	out        chan<- types.Event
	subscribed bool
	behind     bool // the reader's buffer ran full, and ends with EventResync
}

func (f *feed) take(message any) {
	switch m := message.(type) {
	case *redis.Subscription:
		// go-redis subscribes again whenever it had to connect anew.
		if f.subscribed {
			f.put(resync())
		}
		f.subscribed = true
	case *redis.Message:
		var events []types.Event
		if err := json.Unmarshal([]byte(m.Payload), &events); err != nil {
			slog.Warn("event message that cannot be read is dropped", "error", err)
			return
		}
		for _, e := range events {
			f.put(e)
		}
	}
}

// put keeps the buffer's last slot for the word that what follows was dropped.
// It is the channel's only sender, so free slots stay free until it fills them.
func (f *feed) put(e types.Event) {
	switch free := cap(f.out) - len(f.out); {
	case free > 1:
		f.out <- e
		f.behind = false
	case !f.behind:
		f.out <- resync()
		f.behind = true
	}
}

func resync() types.Event { return types.Event{Type: EventResync, At: time.Now().UTC()} }
