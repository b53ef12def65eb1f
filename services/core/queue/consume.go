package queue

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/aetherium/aetherium/libs/types"
)

// weights are the shares of a busy worker's attention. They are shares, not
// ranks, so that low work is slow under load but never starved.
var weights = map[types.Priority]int{
	types.PriorityCritical: 8,
	types.PriorityHigh:     4,
	types.PriorityDefault:  2,
	types.PriorityLow:      1,
}

const (
	// checkInterval is Asynq's pause after it found every queue empty. It can be
	// this short because the gate holds an idle consumer back.
	checkInterval = 2 * time.Millisecond
	// shutdownLimit is how long Asynq waits for handlers at the end before it
	// puts their entries back.
	shutdownLimit = 2 * time.Second
)

// Consume calls handle for each entry of a worker, at most concurrency at once,
// until ctx ends. It outlasts Redis: while Redis is away it tries on, and a
// flush is no more to it than an empty queue. handle should hand the work on and
// return soon; its context ends with ctx. Entries that come after ctx ended are
// left for the next consumer.
func (q *Queue) Consume(ctx context.Context, workerID string, concurrency int, handle func(context.Context, Entry)) error {
	// A client of its own: the gate must hold back nobody else's commands.
	client := redis.NewUniversalClient(q.opts)
	defer client.Close()
	gate := newGate(len(weights))
	client.AddHook(gate)

	queues := make(map[string]int, len(weights))
	for p, w := range weights {
		queues[queueName(workerID, p)] = w
	}
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency:       concurrency,
		Queues:            queues,
		TaskCheckInterval: checkInterval,
		ShutdownTimeout:   shutdownLimit,
		Logger:            asynqLog{slog.Default().With("component", "queue")},
		LogLevel:          asynq.WarnLevel,
		// Nothing of ours is delayed, grouped or retained.
		DelayedTaskCheckInterval: time.Hour,
		JanitorInterval:          time.Hour,
	})
	var waking sync.WaitGroup
	waking.Go(func() { gate.listen(ctx, q.redis, workerID) })
	defer waking.Wait()

	err := server.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		var e Entry
		if err := json.Unmarshal(t.Payload(), &e); err != nil {
			slog.Warn("queue entry that cannot be read is dropped", "worker", workerID, "error", err)
			return nil
		}
		// Not Asynq's context: that one ends with Asynq's own lease and time-out.
		handle(ctx, e)
		return nil
	}))
	if err != nil {
		return types.Errorf(types.KindInternal, "queue: consume for worker %s: %w", workerID, err)
	}
	<-ctx.Done()
	gate.open()
	server.Shutdown()
	return nil
}
