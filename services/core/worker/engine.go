package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/queue"
	"github.com/aetherium/aetherium/services/core/store"
)

// Handler does a task's work. It must be idempotent: it may be called again
// after a crash at any line. A nil error commits the end that it answers; an
// error that a retry may cure releases the task for its next attempt; any other
// commits the end as failed, with the end's result and VM change.
type Handler func(ctx context.Context, job *Job) (store.TaskEnd, error)

// handler is a Handler and how the engine treats it.
type handler struct {
	run        Handler
	lifecycle  bool // holds a lifecycle slot, and is let end at shutdown
	cancelable bool // its context ends when the task is canceled
}

func (w *Worker) table() map[types.TaskType]handler {
	t := map[types.TaskType]handler{
		types.TaskVMCreate:  {run: w.createVM, lifecycle: true, cancelable: true},
		types.TaskVMStart:   {run: w.startVM, lifecycle: true},
		types.TaskVMStop:    {run: w.stopVM, lifecycle: true},
		types.TaskVMPause:   {run: w.pauseVM, lifecycle: true},
		types.TaskVMResume:  {run: w.resumeVM, lifecycle: true},
		types.TaskVMDelete:  {run: w.deleteVM, lifecycle: true},
		types.TaskVMExecute: {run: w.execute, cancelable: true},
		types.TaskImagePull: {run: w.pullImage, cancelable: true},
	}
	for name, h := range w.cfg.Handlers {
		t[name] = handler{run: h, cancelable: true}
	}
	return t
}

// Job is one attempt of a task that this worker runs.
type Job struct {
	Task types.Task
	VM   *types.VM // as it was at the claim; nil for tasks without one
	// Resumed is set where an earlier process of this worker had claimed it.
	Resumed bool

	ctx    context.Context
	cancel context.CancelCauseFunc
	unlock func() // gives back the machine's turn, if the job has it
}

// takeTurn takes the machine's turn for the job, until its end is recorded: who
// comes next shall find the record true.
func (j *Job) takeTurn(m *machine) error {
	unlock, err := m.lock(j.ctx)
	if err == nil {
		j.unlock = unlock
	}
	return err
}

// take is the queue's handler: it claims the task and hands it to a goroutine of
// its own, so that the queue's entry is done and the store's lease is all that
// counts. It blocks while every slot is taken.
func (w *Worker) take(ctx context.Context, e queue.Entry) {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	task, vm, err := w.cfg.Store.ClaimTask(ctx, e.TaskID, e.Attempt, w.id, w.cfg.Lease)
	if err != nil {
		<-w.slots
		if k := types.KindOf(err); k != types.KindConflict && k != types.KindNotFound && ctx.Err() == nil {
			w.log.Warn("could not claim a task; the dispatcher will bring it again", "task", e.TaskID, "error", err)
		}
		return
	}
	w.begin(&Job{Task: task, VM: vm})
}

// begin runs a claimed job; its slot is taken already.
func (w *Worker) begin(j *Job) {
	j.ctx, j.cancel = context.WithCancelCause(w.life)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.jobs[j.Task.ID] != nil {
		<-w.slots // drained meanwhile; or run twice, which the claim forbids
		return
	}
	w.jobs[j.Task.ID] = j
	w.working.Go(func() {
		defer func() {
			w.mu.Lock()
			delete(w.jobs, j.Task.ID)
			w.mu.Unlock()
			j.cancel(nil)
			if j.unlock != nil {
				j.unlock()
			}
			<-w.slots
		}()
		end, err := w.run(j)
		w.settle(j, end, err)
	})
}

func (w *Worker) run(j *Job) (end store.TaskEnd, err error) {
	h, ok := w.handlers[j.Task.Type]
	if !ok {
		return end, types.Errorf(types.KindUnsupported, "this worker does not know tasks of type %s", j.Task.Type)
	}
	if h.lifecycle {
		select {
		case w.heavy <- struct{}{}:
			defer func() { <-w.heavy }()
		case <-j.ctx.Done():
			return end, context.Cause(j.ctx)
		}
	}
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("handler panicked", "task", j.Task.ID, "type", j.Task.Type, "panic", p, "stack", string(debug.Stack()))
			err = types.Errorf(types.KindInternal, "the worker's handler of %s failed unexpectedly", j.Task.Type)
		}
	}()
	return h.run(j.ctx, j)
}

// settle commits how a job ended, or leaves it to whoever has it next.
func (w *Worker) settle(j *Job, end store.TaskEnd, err error) {
	log := w.log.With("task", j.Task.ID, "type", j.Task.Type, "attempt", j.Task.Attempt, "vm", j.Task.VMID)
	cause := context.Cause(j.ctx)
	switch {
	case err == nil && end.State == "":
		end.State = types.TaskSucceeded
	case err == nil:
	case errors.Is(cause, errLeft), errors.Is(cause, errLost):
		log.Info("task is left as it is", "reason", cause)
		return
	case errors.Is(cause, errCanceled), errors.Is(cause, errSuperseded):
		end.State, end.Error, end.Reason = types.TaskCanceled, types.AsError(cause), cause.Error()
	case types.TraitOf(types.KindOf(err)).Retryable && j.Task.Attempt < j.Task.MaxAttempts:
		w.release(j, err)
		return
	default:
		end.State, end.Error = types.TaskFailed, types.AsError(err)
		end.Reason = end.Error.Message
	}
	finish := func(ctx context.Context) error {
		_, err := w.cfg.Store.FinishTask(ctx, j.Task.ID, j.Task.Attempt, end)
		return err
	}
	err = w.insist(w.life, "record a task's end", finish)
	if types.KindOf(err) == types.KindConflict && end.VM != nil {
		// The VM went another way meanwhile, as by a fault of its own. If the task
		// is still ours, that is how it ended.
		end.VM, end.State, end.Error, end.Reason = nil, types.TaskFailed, types.AsError(err), err.Error()
		err = w.insist(w.life, "record a task's end", finish)
	}
	if err != nil {
		log.Warn("task's end was not recorded", "state", end.State, "error", err)
		return
	}
	log.Info("task ended", "state", end.State, "reason", end.Reason)
}

// release gives a task back for its next attempt.
func (w *Worker) release(j *Job, cause error) {
	wait := backoff(j.Task.Attempt)
	reason := fmt.Sprintf("attempt %d of %d failed: %v", j.Task.Attempt, j.Task.MaxAttempts, cause)
	err := w.insist(w.life, "release a task", func(ctx context.Context) error {
		return w.cfg.Store.ReleaseTask(ctx, j.Task.ID, j.Task.Attempt, time.Now().Add(wait).UTC(), reason)
	})
	w.log.Warn("task will be tried again", "task", j.Task.ID, "type", j.Task.Type, "attempt", j.Task.Attempt, "in", wait, "cause", cause, "error", err)
}

// backoff is 1 s, 2 s, 4 s … to a minute, by up to a half more, so that tasks
// which failed together do not come back together.
func backoff(attempt int) time.Duration {
	d := min(time.Second<<min(attempt-1, 6), time.Minute)
	return d + rand.N(d/2)
}

// cancelTask ends a running job at someone's wish.
func (w *Worker) cancelTask(id string, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if j := w.jobs[id]; j != nil && (cause == errLost || w.handlers[j.Task.Type].cancelable) {
		j.cancel(cause)
	}
}

// jobsOf lists the running jobs of a VM.
func (w *Worker) jobsOf(vmID string, t types.TaskType) []*Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []*Job
	for _, j := range w.jobs {
		if j.Task.VMID == vmID && j.Task.Type == t {
			found = append(found, j)
		}
	}
	return found
}

// keepLeases renews the leases of all running jobs, thrice a lease and whenever
// an event hints that one was canceled, until ctx ends.
func (w *Worker) keepLeases(ctx context.Context) {
	tick := time.NewTicker(w.cfg.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.renew:
		}
		if err := w.renewLeases(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("could not renew leases; will try again", "error", err)
		}
	}
}

func (w *Worker) renewLeases(ctx context.Context) error {
	w.mu.Lock()
	ids := make([]string, 0, len(w.jobs))
	for id := range w.jobs {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	r, err := w.cfg.Store.RenewLeases(ctx, w.id, ids, w.cfg.Lease)
	if err != nil {
		return err
	}
	for _, id := range r.Canceled {
		w.cancelTask(id, errCanceled)
	}
	for _, id := range r.Lost {
		w.cancelTask(id, errLost)
	}
	return nil
}

// watchEvents makes cancellation prompt: an event about a task that runs here
// asks the store at once. It returns when ctx ends.
func (w *Worker) watchEvents(ctx context.Context) error {
	events, err := w.cfg.Queue.Subscribe(ctx)
	if err != nil {
		return err
	}
	for e := range events {
		if e.Type == queue.EventResync || w.concerns(e) {
			select {
			case w.renew <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

// concerns reports whether an event says that a task which runs here was
// canceled or taken away.
func (w *Worker) concerns(e types.Event) bool {
	if e.TaskID == "" {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.jobs[e.TaskID] != nil && e.Type == types.EventTaskCancel
}

// payload decodes what a task asks for.
func payload[T any](t types.Task) (T, error) {
	var v T
	if err := json.Unmarshal(t.Payload, &v); err != nil {
		return v, types.Errorf(types.KindInvalid, "payload of %s cannot be read: %w", t.Type, err)
	}
	return v, nil
}
