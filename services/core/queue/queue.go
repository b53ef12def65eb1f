// Package queue carries task ids from the dispatcher to the worker that shall
// run them, and events to whoever watches. It is a thin face on Asynq (Redis, or
// an in-process Redis); nothing above it knows of Asynq.
//
// The queue may lose everything at any moment: an entry only says "look at this
// task's record". Leases, attempts, back-off and results are the store's. So
// Asynq's retries and retention are off, and an entry's handler never fails.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/aetherium/aetherium/libs/types"
)

// taskType is Asynq's name for our entries; what a task is stands in its record.
const taskType = "aetherium:task"

// Entry says that one attempt of a task waits for a worker.
type Entry struct {
	TaskID   string         `json:"task"`
	Attempt  int            `json:"attempt"`
	WorkerID string         `json:"worker"`
	Priority types.Priority `json:"priority"`
}

// id names the entry in Redis. It holds the attempt, so that an entry which
// Redis left stuck cannot block the next one.
func (e Entry) id() string { return fmt.Sprintf("%s:%d", e.TaskID, e.Attempt) }

func (e Entry) queue() string { return queueName(e.WorkerID, e.Priority) }

func queueName(workerID string, p types.Priority) string {
	return fmt.Sprintf("worker:%s:%s", workerID, p)
}

// Place is where an entry is.
type Place string

// The places of an entry.
const (
	Missing Place = "missing" // Redis does not know it: never enqueued, done, or lost
	Waiting Place = "waiting" // no worker has taken it yet
	Active  Place = "active"  // a worker took it, and has not said that it is done
)

// Queue is a connection to Redis. Its methods may be called from many
// goroutines.
type Queue struct {
	redis     redis.UniversalClient
	opts      *redis.UniversalOptions
	tasks     *asynq.Client
	inspector *asynq.Inspector
	events    *publisher
	stop      func() // ends the in-process Redis, if any
	closing   sync.Once
}

// Open makes a queue on a Redis by URL, or on one inside this process by the
// word "embedded". It does not wait for Redis to answer; Ping tells. For the
// forms of URL see parseURL.
func Open(ctx context.Context, url string) (*Queue, error) {
	opts, stop, err := connection(url)
	if err != nil {
		return nil, err
	}
	quietRedis()
	client := redis.NewUniversalClient(opts)
	q := &Queue{
		redis:     client,
		opts:      opts,
		tasks:     asynq.NewClientFromRedisClient(client),
		inspector: asynq.NewInspectorFromRedisClient(client),
		stop:      stop,
	}
	q.events = startPublisher(context.WithoutCancel(ctx), client)
	return q, nil
}

func connection(url string) (*redis.UniversalOptions, func(), error) {
	if url == Embedded {
		opts, stop := embedded()
		return opts, stop, nil
	}
	opts, err := parseURL(url)
	return opts, func() {}, err
}

// Close ends the connection. Consumers and subscribers must have ended.
func (q *Queue) Close() error {
	var err error
	q.closing.Do(func() {
		q.events.close()
		err = q.redis.Close()
		q.stop()
	})
	return err
}

// Ping reports whether Redis answers: types.KindUnavailable if not.
func (q *Queue) Ping(ctx context.Context) error {
	return unavailable("ping", q.redis.Ping(ctx).Err())
}

// Enqueue puts an entry on its worker's queue. An entry that is there already
// is no error and is not put twice.
func (q *Queue) Enqueue(ctx context.Context, e Entry) error {
	payload, err := json.Marshal(e)
	if err != nil {
		return types.Errorf(types.KindInternal, "encode queue entry %s: %w", e.id(), err)
	}
	_, err = q.tasks.EnqueueContext(ctx, asynq.NewTask(taskType, payload),
		asynq.Queue(e.queue()), asynq.TaskID(e.id()), asynq.MaxRetry(0), asynq.Timeout(handleLimit))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return unavailable("enqueue "+e.id(), err)
	}
	// A wake that is lost costs one idle poll, so its error is nobody's business.
	_ = q.redis.Publish(ctx, wakeChannel(e.WorkerID), "").Err()
	return nil
}

// Lookup tells where an entry is. An entry that Asynq keeps only as a record of
// a failure is forgotten and reported missing, so that it can be put again.
func (q *Queue) Lookup(ctx context.Context, e Entry) (Place, error) {
	info, err := q.inspector.GetTaskInfo(e.queue(), e.id())
	switch {
	case errors.Is(err, asynq.ErrQueueNotFound), errors.Is(err, asynq.ErrTaskNotFound):
		return Missing, nil
	case err != nil:
		return "", unavailable("look up "+e.id(), err)
	}
	switch info.State {
	case asynq.TaskStateActive:
		return Active, nil
	case asynq.TaskStatePending:
		return Waiting, nil
	}
	err = q.inspector.DeleteTask(e.queue(), e.id())
	if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound) {
		return "", unavailable("forget "+e.id(), err)
	}
	return Missing, nil
}

// handleLimit bounds how long an entry may stay with a handler before Asynq
// sets it aside. Handlers hand the work on and return, so only a worker that
// has no free slot for this long ever meets it; the dispatcher then puts the
// entry again.
const handleLimit = 10 * time.Minute

func unavailable(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return types.Errorf(types.KindCanceled, "queue: %s: %w", doing, err)
	}
	return types.Errorf(types.KindUnavailable, "queue: %s: %w", doing, err).
		WithRemedy("see that Redis runs and that --redis-url names it")
}
