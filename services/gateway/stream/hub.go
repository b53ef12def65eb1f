package stream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/queue"
)

const (
	// pollWhenBlind is how often whoever waits looks at the store while events
	// do not come, and pollWhenLive how often although they do: the way of events
	// may lose some.
	pollWhenBlind = time.Second
	pollWhenLive  = 5 * time.Second
	pingTimeout   = time.Second
)

// errClosing ends what waits when the gateway shuts down.
var errClosing = types.Errorf(types.KindUnavailable, "the gateway is shutting down").
	WithRemedy("try again; streams resume where they ended")

// Source is where events come from: the queue.
type Source interface {
	// Subscribe answers events until ctx ends. It may lose some.
	Subscribe(ctx context.Context) (<-chan types.Event, error)
	// Ping reports whether events can come at all.
	Ping(ctx context.Context) error
}

// Hub spreads one subscription to events over everyone in this process who
// waits for something to happen. It carries no data, only the word to look at
// the store again. Until Run is called it only passes on what Notify is told.
type Hub struct {
	source Source
	log    *slog.Logger
	ctx    context.Context // ends when Run does
	end    context.CancelFunc

	mu      sync.Mutex
	watches map[string]map[*Watch]struct{} // by task id; "" watches everything
}

// Watch is one who waits.
type Watch struct {
	hub    *Hub
	topic  string
	want   func(types.Event) bool
	signal chan struct{} // Hub → waiter; holds one
}

// NewHub makes a hub on a source of events.
func NewHub(source Source, log *slog.Logger) *Hub {
	ctx, end := context.WithCancel(context.Background())
	return &Hub{source: source, log: log, ctx: ctx, end: end, watches: map[string]map[*Watch]struct{}{}}
}

// Run passes events on until ctx ends; then everything that waits is ended too.
func (h *Hub) Run(ctx context.Context) error {
	defer h.end()
	for ctx.Err() == nil {
		events, err := h.source.Subscribe(ctx)
		if err != nil {
			h.log.Warn("no events; waiting clients are served from the store alone", "error", err)
		}
		h.pass(ctx, events)
	}
	return nil
}

// pass serves one subscription. With none (nil) it polls for a while, then
// returns to subscribe again.
func (h *Hub) pass(ctx context.Context, events <-chan types.Event) {
	tick := time.NewTicker(pollWhenBlind)
	defer tick.Stop()
	blind := events == nil
	for ticks := 0; ; {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			h.spread(e)
			continue
		case <-tick.C:
			ticks++
		}
		was := blind
		blind = events == nil || h.silent(ctx)
		if blind != was {
			h.log.Info("events", "coming", !blind)
		}
		if blind || ticks%int(pollWhenLive/pollWhenBlind) == 0 {
			h.wakeAll()
		}
		if events == nil && ticks >= 5 {
			return
		}
	}
}

func (h *Hub) silent(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return h.source.Ping(ctx) != nil
}

// Notify passes on events that this process knows of without the queue.
func (h *Hub) Notify(events []types.Event) {
	for _, e := range events {
		h.spread(e)
	}
}

// Watch begins to listen for events of one task, or of everything for "". An
// event that want refuses wakes nobody; nil wants all. Close it after use.
func (h *Hub) Watch(taskID string, want func(types.Event) bool) *Watch {
	w := &Watch{hub: h, topic: taskID, want: want, signal: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watches[taskID] == nil {
		h.watches[taskID] = map[*Watch]struct{}{}
	}
	h.watches[taskID][w] = struct{}{}
	return w
}

// Close ends the watch.
func (w *Watch) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	delete(w.hub.watches[w.topic], w)
	if len(w.hub.watches[w.topic]) == 0 {
		delete(w.hub.watches, w.topic)
	}
}

// Until calls check at once and after every event of the watch, until check
// answers true or an error, or ctx or the hub ends. Where every is above zero it
// also calls check that often.
func (w *Watch) Until(ctx context.Context, every time.Duration, check func() (bool, error)) error {
	var tick <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for {
		if done, err := check(); done || err != nil {
			return err
		}
		select {
		case <-w.signal:
		case <-tick:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.hub.ctx.Done():
			return errClosing
		}
	}
}

func (h *Hub) spread(e types.Event) {
	if e.Type == queue.EventResync {
		h.wakeAll()
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watches[""] {
		w.wake(e)
	}
	if e.TaskID == "" {
		return
	}
	for w := range h.watches[e.TaskID] {
		w.wake(e)
	}
}

func (h *Hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, set := range h.watches {
		for w := range set {
			w.poke()
		}
	}
}

func (w *Watch) wake(e types.Event) {
	if w.want == nil || w.want(e) {
		w.poke()
	}
}

func (w *Watch) poke() {
	select {
	case w.signal <- struct{}{}:
	default: // it will look anyway
	}
}

// isOver reports an end that is not the fault of what was waited for: the
// client has gone, its time is up, or the gateway shuts down.
func isOver(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errClosing)
}
