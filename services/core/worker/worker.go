// Package worker runs tasks on one host: it claims what the queue brings, does
// it with the host's runtimes and the guests' agents, and commits the result. It
// keeps what ought to exist and what does exist the same: at its start it
// re-adopts running VMs and execs, and sweeps away what no record wants.
//
// The store decides everything. A worker may be killed at any line: whatever it
// had claimed goes on when it, or its lease, comes back.
package worker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	goruntime "runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/image"
	"github.com/aetherium/aetherium/services/core/queue"
	"github.com/aetherium/aetherium/services/core/runtime"
	"github.com/aetherium/aetherium/services/core/store"
)

// Config is what a worker works with. Zero numbers mean the defaults.
type Config struct {
	Store    *store.Store
	Queue    *queue.Queue
	Runtimes []runtime.Runtime // most wanted first; the first proven one is the default
	Images   *image.Store
	DataDir  string // holds worker-id; its disk is the worker's disk capacity
	Address  string // where gateways reach the direct face: http://host:port or unix:///path
	Labels   map[string]string
	Version  string
	Log      *slog.Logger

	CPUOvercommit  float64       // vcpus offered for each CPU of the host; 16
	DiskOvercommit float64       // disk offered for each byte free: disks are sparse; 4
	Slots          int           // tasks at once; an exec holds one while it runs; 256
	LifecycleSlots int           // VMs being made, started or ended at once; 2 for each CPU
	Lease          time.Duration // how long a silent worker keeps its tasks; 30 s
	HeartbeatEvery time.Duration // 2 s
	ReadyTimeout   time.Duration // for a new guest's agent to answer; 60 s
	StopGrace      time.Duration // for a guest's processes to end before it is stopped; 10 s
	CancelGrace    time.Duration // between SIGTERM and SIGKILL of a canceled exec; 5 s
	DrainGrace     time.Duration // for lifecycle work to end at shutdown; 20 s
	Linger         time.Duration // for attached clients to read an ended exec's spool; 30 s

	// Handlers are more task types, as benchmarks use.
	Handlers map[types.TaskType]Handler
}

func (c *Config) setDefaults() {
	c.CPUOvercommit = cmp.Or(c.CPUOvercommit, 16)
	c.DiskOvercommit = cmp.Or(c.DiskOvercommit, 4)
	c.Slots = cmp.Or(c.Slots, 256)
	c.LifecycleSlots = cmp.Or(c.LifecycleSlots, 2*goruntime.NumCPU())
	c.Lease = cmp.Or(c.Lease, 30*time.Second)
	c.HeartbeatEvery = cmp.Or(c.HeartbeatEvery, 2*time.Second)
	c.ReadyTimeout = cmp.Or(c.ReadyTimeout, time.Minute)
	c.StopGrace = cmp.Or(c.StopGrace, 10*time.Second)
	c.CancelGrace = cmp.Or(c.CancelGrace, 5*time.Second)
	c.DrainGrace = cmp.Or(c.DrainGrace, 20*time.Second)
	c.Linger = cmp.Or(c.Linger, 30*time.Second)
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// Worker is one host's worker. Make it with New, start it with Run, once.
type Worker struct {
	cfg      Config
	id       string
	log      *slog.Logger
	started  time.Time
	handlers map[types.TaskType]handler
	slots    chan struct{} // one for each task that runs
	heavy    chan struct{} // one for each lifecycle task that runs
	renew    chan struct{} // holds one wish to renew leases now

	life context.Context // ends when the process shall leave everything as it is
	kill context.CancelCauseFunc

	mu       sync.Mutex
	jobs     map[string]*Job     // by task id
	machines map[string]*machine // by VM id
	runtimes []types.RuntimeStatus
	closed   bool // no job begins any more

	working    sync.WaitGroup // jobs
	background sync.WaitGroup // watchers and lingering execs
}

// Why a job's context ended; see settle.
var (
	errCanceled   = types.Errorf(types.KindCanceled, "canceled on request")
	errSuperseded = types.Errorf(types.KindCanceled, "its VM is being deleted")
	errLeft       = errors.New("left as it is: the worker ends")
	errLost       = errors.New("left as it is: the task is not this worker's any more")
)

// New makes a worker. Its id is the one in the data folder, made up the first
// time: a worker that restarts is the same worker, and its VMs are its own.
func New(cfg Config) (*Worker, error) {
	cfg.setDefaults()
	id, err := identity(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		cfg:      cfg,
		id:       id,
		log:      cfg.Log.With("component", "worker", "worker", id),
		started:  time.Now().UTC(),
		slots:    make(chan struct{}, cfg.Slots),
		heavy:    make(chan struct{}, cfg.LifecycleSlots),
		renew:    make(chan struct{}, 1),
		jobs:     make(map[string]*Job),
		machines: make(map[string]*machine),
	}
	w.life, w.kill = context.WithCancelCause(context.Background())
	w.handlers = w.table()
	return w, nil
}

// ID is the worker's id.
func (w *Worker) ID() string { return w.id }

// Run takes up the worker's VMs and tasks, then works until ctx ends, then
// drains: it claims nothing more, lets lifecycle work end within the grace, and
// leaves running execs to the worker that starts next on this data folder.
func (w *Worker) Run(ctx context.Context) error {
	defer w.background.Wait()
	defer w.kill(errLeft)
	if err := w.insist(ctx, "register", func(ctx context.Context) error { return w.register(ctx) }); err != nil {
		return err
	}
	if err := w.insist(ctx, "take up what runs here", w.adopt); err != nil {
		return err
	}
	beat, stopBeat := context.WithCancel(w.life)
	defer stopBeat()
	var alive errgroup.Group
	alive.Go(func() error { w.heartbeat(beat); return nil })
	alive.Go(func() error { w.keepLeases(beat); return nil })

	working, stopWorking := context.WithCancel(ctx)
	defer context.AfterFunc(w.life, stopWorking)()
	g, working := errgroup.WithContext(working)
	g.Go(func() error { return w.watchEvents(working) })
	g.Go(func() error { w.prove(working); return nil })
	g.Go(func() error {
		return w.cfg.Queue.Consume(working, w.id, min(w.cfg.Slots, claimsAtOnce), w.take)
	})
	err := g.Wait()
	w.drain()
	stopBeat()
	_ = alive.Wait()
	return err
}

// claimsAtOnce bounds the claims that wait for the store or for a free slot.
const claimsAtOnce = 32

// drain ends the worker's work in order. The record says draining, so that
// tasks for its VMs wait for its return.
func (w *Worker) drain() {
	w.mu.Lock()
	w.closed = true
	for _, j := range w.jobs {
		if !w.handlers[j.Task.Type].lifecycle {
			j.cancel(errLeft)
		}
	}
	w.mu.Unlock()
	if w.life.Err() == nil {
		ctx, cancel := context.WithTimeout(w.life, 5*time.Second)
		if err := w.cfg.Store.SetWorkerState(ctx, w.id, types.WorkerDraining); err != nil {
			w.log.Warn("could not record that the worker drains", "error", err)
		}
		cancel()
	}
	grace := time.AfterFunc(w.cfg.DrainGrace, func() { w.kill(errLeft) })
	defer grace.Stop()
	w.working.Wait()
}

// insist tries something that needs the store until it is done, ctx ends, or it
// fails in a way that no waiting cures.
func (w *Worker) insist(ctx context.Context, what string, do func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := do(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !types.TraitOf(types.KindOf(err)).Retryable:
			return err
		}
		w.log.Warn("could not "+what+"; will try again", "error", err)
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
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
