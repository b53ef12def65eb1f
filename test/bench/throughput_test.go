//go:build bench

package bench

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/dispatch"
	"github.com/aetherium/aetherium/services/core/image"
	"github.com/aetherium/aetherium/services/core/queue"
	"github.com/aetherium/aetherium/services/core/store"
	"github.com/aetherium/aetherium/services/core/worker"
)

// noop is a task that does nothing: what is left is what the platform costs.
const noop types.TaskType = "bench:noop"

const clients = 16 // that submit tasks at once

// rig is store, dispatcher, queue and worker as the programs wire them, without a
// runtime, in this process.
type rig struct {
	store      *store.Store
	dispatcher *dispatch.Dispatcher
	worker     string
	ended      atomic.Int64
	each       chan struct{} // a wish to look at ended again
}

func newRig(t *testing.T, database, redis string) *rig {
	t.Helper()
	// Everything is logged, as it would be, and then thrown away.
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	s, err := store.Open(t.Context(), database)
	must(t, err)
	must(t, s.Migrate(t.Context()))
	q, err := queue.Open(t.Context(), redis)
	must(t, err)
	r := &rig{store: s, each: make(chan struct{}, 1)}
	s.OnEvents(func(events []types.Event) {
		_ = q.Publish(context.Background(), events) // lossy by design
		r.count(events)
	})
	dir := folder(t)
	images, err := image.Open(dir, image.Options{Log: log})
	must(t, err)
	w, err := worker.New(worker.Config{
		Store: s, Queue: q, Images: images, DataDir: dir, Address: "unix:///none", Log: log,
		Handlers: map[types.TaskType]worker.Handler{noop: func(context.Context, *worker.Job) (store.TaskEnd, error) {
			return store.TaskEnd{State: types.TaskSucceeded}, nil
		}},
	})
	must(t, err)
	r.worker = w.ID()
	r.dispatcher = dispatch.New(dispatch.Config{Store: s, Queue: q, Log: log})
	ctx, stop := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return r.dispatcher.Run(ctx) })
	g.Go(func() error { return w.Run(ctx) })
	t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		_, _ = q.Close(), s.Close()
	})
	until(t, "the worker is registered", 10*time.Millisecond, func() bool {
		_, err := s.GetWorker(t.Context(), r.worker)
		return err == nil
	})
	return r
}

func (r *rig) count(events []types.Event) {
	for _, e := range events {
		if e.Type == types.EventTaskState && types.TaskState(e.State).Ended() {
			r.ended.Add(1)
		}
	}
	select {
	case r.each <- struct{}{}:
	default:
	}
}

// throughput runs n no-op tasks and answers how many went through in a second,
// from the first submitted to the last one's recorded end.
func (r *rig) throughput(t *testing.T, n int) float64 {
	t.Helper()
	r.ended.Store(0)
	began := time.Now()
	submit(t, n, func() error {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		_, _, err = r.store.CreateTask(t.Context(), types.Task{
			ID: id.String(), Type: noop, WorkerID: r.worker, Priority: types.PriorityDefault, MaxAttempts: 1, Payload: []byte("{}"),
		}, store.Idempotency{})
		r.dispatcher.Kick()
		return err
	})
	deadline := time.After(2 * time.Minute)
	for r.ended.Load() < int64(n) {
		select {
		case <-r.each:
		case <-deadline:
			t.Fatalf("%d of %d tasks have ended after two minutes", r.ended.Load(), n)
		}
	}
	return float64(n) / time.Since(began).Seconds()
}

// submit calls do n times, from many clients at once.
func submit(t *testing.T, n int, do func() error) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(clients)
	for range n {
		g.Go(do)
	}
	must(t, g.Wait())
}

// rawAsynq is the same with Asynq alone: nothing is kept.
func rawAsynq(t *testing.T, redis string, n int) float64 {
	t.Helper()
	opt, err := asynq.ParseRedisURI(redis)
	must(t, err)
	var left atomic.Int64
	left.Store(int64(n))
	all := make(chan struct{})
	server := asynq.NewServer(opt, asynq.Config{Concurrency: 32, TaskCheckInterval: 5 * time.Millisecond, LogLevel: asynq.FatalLevel})
	must(t, server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		if left.Add(-1) == 0 {
			close(all)
		}
		return nil
	})))
	defer sync.OnceFunc(server.Shutdown)()
	c := asynq.NewClient(opt)
	defer func() { _ = c.Close() }()
	began := time.Now()
	submit(t, n, func() error {
		_, err := c.Enqueue(asynq.NewTask("noop", []byte("{}")), asynq.MaxRetry(0))
		return err
	})
	select {
	case <-all:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%d of %d Asynq tasks are left after two minutes", left.Load(), n)
	}
	return float64(n) / time.Since(began).Seconds()
}
