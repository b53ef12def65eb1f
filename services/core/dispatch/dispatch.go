// Package dispatch moves accepted tasks to workers: it decides where each goes
// and puts it on that worker's queue, at once after a commit and again by a
// sweep for whatever was lost in between. It also ends what died quietly: leases
// that ran out, workers that fell silent, queue entries that Redis lost.
//
// Every gateway runs one; they share the work through the store's row locks and
// need no leader. The dispatcher holds no state that matters: kill it anywhere.
package dispatch

import (
	"context"
	"log/slog"
	"math/bits"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/queue"
	"github.com/aetherium/aetherium/services/core/store"
)

// Config is what a Dispatcher works with. Zero durations mean the defaults.
type Config struct {
	Store *store.Store
	Queue *queue.Queue
	Log   *slog.Logger

	SweepEvery time.Duration // how often to look for what was lost; 1 s
	StaleAfter time.Duration // how long a queued task may be unclaimed before its entry is looked for; 2 s
	StuckAfter time.Duration // how long an entry may be active and its task unclaimed; 30 s
	LostAfter  time.Duration // how long a worker may be silent; 15 s
}

// Dispatcher places pending tasks. Make one with New and start Run.
type Dispatcher struct {
	cfg  Config
	log  *slog.Logger
	kick chan struct{} // Kick → Run; holds one
}

const (
	placeBatch  = 256  // tasks placed in one transaction, to begin with
	staleBatch  = 5000 // stale tasks seen in one sweep
	canaries    = 16   // stale tasks whose entry every sweep looks up
	parallel    = 8    // calls to Redis at once
	outagePause = 250 * time.Millisecond
)

// New makes a dispatcher.
func New(cfg Config) *Dispatcher {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.SweepEvery, time.Second)
	def(&cfg.StaleAfter, 2*time.Second)
	def(&cfg.StuckAfter, 30*time.Second)
	def(&cfg.LostAfter, 15*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Dispatcher{cfg: cfg, log: cfg.Log.With("component", "dispatch"), kick: make(chan struct{}, 1)}
}

// Kick says that there may be something to place. It never blocks; call it after
// every commit that made a task or changed what one waits for.
func (d *Dispatcher) Kick() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// Run places and sweeps until ctx ends. Faults of the store or of Redis are
// logged and tried again: nothing but ctx ends it.
func (d *Dispatcher) Run(ctx context.Context) error {
	events, err := d.cfg.Queue.Subscribe(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { d.kickOn(events); return nil })
	g.Go(func() error { d.sweepLoop(ctx); return nil })
	g.Go(func() error { d.placeLoop(ctx); return nil })
	d.Kick()
	return g.Wait()
}

// kickOn turns the events that may set a waiting task free into kicks.
func (d *Dispatcher) kickOn(events <-chan types.Event) {
	for e := range events {
		switch {
		case e.Type == queue.EventResync, e.Type == "vm.state", e.Type == "worker.state",
			e.Type == "task.state" && e.State == string(types.TaskPending):
			d.Kick()
		}
	}
}

func (d *Dispatcher) placeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.kick:
		}
		if err := d.place(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("placing pending tasks failed; will try again", "error", err)
			if !pause(ctx, outagePause) {
				return
			}
			d.Kick()
		}
	}
}

// place places all that can be placed. A batch of tasks that all have to wait
// must not hide those behind it, so the batch grows until it reaches the end.
func (d *Dispatcher) place(ctx context.Context) error {
	for limit := placeBatch; ; {
		seen := 0
		placed, err := d.cfg.Store.PlacePending(ctx, limit, func(c store.Candidate) store.Decision {
			seen++
			return decide(c)
		})
		if err != nil {
			return err
		}
		d.enqueue(ctx, placed)
		switch {
		case seen < limit:
			return nil
		case len(placed) == 0:
			limit *= 4
		}
	}
}

// enqueue puts tasks on their workers' queues. What Redis does not take, the
// sweep puts again.
func (d *Dispatcher) enqueue(ctx context.Context, tasks []types.Task) {
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, t := range tasks {
		g.Go(func() error { return d.cfg.Queue.Enqueue(ctx, entry(t)) })
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		d.log.Warn("queue does not take entries; the sweep will put them again", "error", err)
	}
}

func entry(t types.Task) queue.Entry {
	return queue.Entry{TaskID: t.ID, Attempt: t.Attempt, WorkerID: t.WorkerID, Priority: t.Priority}
}

func (d *Dispatcher) sweepLoop(ctx context.Context) {
	last := time.Now()
	for pause(ctx, d.cfg.SweepEvery) {
		now := time.Now()
		if err := d.sweep(ctx, now, now.Sub(last)); err != nil && ctx.Err() == nil {
			d.log.Warn("sweep failed; will try again", "error", err)
		}
		last = now
		// Back-offs and retries come due without any event.
		d.Kick()
	}
}

func (d *Dispatcher) sweep(ctx context.Context, now time.Time, since time.Duration) error {
	lost, err := d.cfg.Store.MarkLostWorkers(ctx, now.Add(-d.cfg.LostAfter))
	if err != nil {
		return err
	}
	for _, w := range lost {
		d.log.Warn("worker is lost: no heartbeat", "worker", w.ID, "host", w.Hostname, "last", w.HeartbeatAt)
	}
	expired, err := d.cfg.Store.ExpireLeases(ctx, now)
	if err != nil {
		return err
	}
	for _, t := range expired {
		d.log.Warn("lease ran out", "task", t.ID, "type", t.Type, "worker", t.WorkerID, "attempt", t.Attempt, "now", t.State)
	}
	stale, err := d.cfg.Store.StaleQueued(ctx, now.Add(-d.cfg.StaleAfter), staleBatch)
	if err != nil || len(stale) == 0 {
		return err
	}
	return d.revive(ctx, stale, now, since)
}

// revive looks for the entries of tasks that nobody claimed. A long queue is
// mostly fine, so each task is looked up when its age doubles; the oldest few
// always are, and once one of those is missing, all are.
func (d *Dispatcher) revive(ctx context.Context, stale []types.Task, now time.Time, since time.Duration) error {
	workers, err := d.workerStates(ctx)
	if err != nil {
		return err
	}
	all := false
	for i, t := range stale {
		if !all && i >= canaries && !doubled(age(t, now), since, d.cfg.StaleAfter) {
			continue
		}
		if s := workers[t.WorkerID]; s != types.WorkerReady && s != types.WorkerDraining {
			if err := d.release(ctx, t, "its worker is lost"); err != nil {
				return err
			}
			continue
		}
		place, err := d.cfg.Queue.Lookup(ctx, entry(t))
		if err != nil {
			return err
		}
		switch {
		case place == queue.Missing:
			all = all || i < canaries
			if err := d.cfg.Queue.Enqueue(ctx, entry(t)); err != nil {
				return err
			}
			d.log.Debug("queue entry was lost and is put again", "task", t.ID, "attempt", t.Attempt)
		case place == queue.Active && age(t, now) > d.cfg.StuckAfter:
			if err := d.release(ctx, t, "its queue entry was stuck"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Dispatcher) release(ctx context.Context, t types.Task, reason string) error {
	err := d.cfg.Store.ReleaseTask(ctx, t.ID, t.Attempt, time.Time{}, reason)
	if types.KindOf(err) == types.KindConflict {
		return nil // claimed or ended meanwhile
	}
	return err
}

func (d *Dispatcher) workerStates(ctx context.Context) (map[string]types.WorkerState, error) {
	workers, err := d.cfg.Store.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	states := make(map[string]types.WorkerState, len(workers))
	for _, w := range workers {
		states[w.ID] = w.State
	}
	return states, nil
}

func age(t types.Task, now time.Time) time.Duration {
	if t.QueuedAt == nil {
		return 0
	}
	return now.Sub(*t.QueuedAt)
}

// doubled reports whether an age passed a power of two times unit within the
// last stretch of time.
func doubled(age, stretch, unit time.Duration) bool {
	order := func(d time.Duration) int { return bits.Len64(uint64(max(d, 0) / unit)) }
	return order(age) != order(age-stretch)
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
