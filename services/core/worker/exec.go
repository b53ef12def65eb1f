package worker

import (
	"context"
	"encoding/json"
	"errors"
	"syscall"
	"time"

	"github.com/aetherium/aetherium/libs/agentapi"
	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
	"github.com/aetherium/aetherium/services/core/runtime"
	"github.com/aetherium/aetherium/services/core/store"
)

const (
	// refollow is the pause before a broken stream of output is taken up again.
	refollow = 100 * time.Millisecond
	// lastWords is how long an ended VM's last output may take to be read.
	lastWords = 200 * time.Millisecond
	// killedExit is how a process ends whose VM ended under it.
	killedExit = 128 + int(syscall.SIGKILL)
)

// errVMGone ends the following of an exec whose VM is not running any more.
var errVMGone = errors.New("the VM is not running any more")

// execute runs a command in a VM and follows it to its end. The agent owns the
// process, known by the task's id: a worker that comes back finds it there and
// carries on at the byte that the store has.
func (w *Worker) execute(ctx context.Context, j *Job) (store.TaskEnd, error) {
	spec, err := payload[types.ExecSpec](j.Task)
	if err != nil {
		return store.TaskEnd{}, err
	}
	m, err := w.lookup(j.Task.VMID)
	if err != nil {
		return store.TaskEnd{}, err
	}
	b := m.current()
	if b == nil {
		return store.TaskEnd{}, types.Errorf(types.KindConflict, "VM %s is not running any more", j.VM.Name).WithRemedy("start the VM")
	}
	defer m.follow()()
	out, err := w.recorder(ctx, j, spec)
	if err != nil {
		return store.TaskEnd{}, err
	}
	x := exec{w: w, j: j, m: m, boot: b, out: out}
	st, err := x.run(ctx, spec)
	if flushErr := out.close(); err == nil {
		err = flushErr
	}
	switch {
	case err == nil:
		w.linger(m, j.Task.ID)
		return x.ended(ctx, st)
	case errors.Is(err, errVMGone):
		return x.cutOff()
	}
	return store.TaskEnd{}, err
}

// exec is one command that is followed.
type exec struct {
	w    *Worker
	j    *Job
	m    *machine
	boot *boot
	out  *recorder
}

func (x *exec) run(ctx context.Context, spec types.ExecSpec) (*agentapi.ExecStatus, error) {
	// The stream ends with the VM, and with the worker, but not with a wish to
	// cancel: a canceled command still has an end and last output.
	follow, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { x.interrupt(follow, context.Cause(ctx), stop) })()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-follow.Done():
		case <-x.boot.gone:
			if pause(follow, lastWords) {
				stop(errVMGone)
			}
		}
	}()
	defer func() { stop(nil); <-watched }()

	if err := x.start(follow, spec); err != nil {
		return nil, x.because(follow, err)
	}
	for {
		st, err := x.m.guest.Follow(follow, x.j.Task.ID, x.out.next(), false, x.event)
		if err == nil {
			return st, nil
		}
		if follow.Err() != nil {
			return nil, x.because(follow, err)
		}
		if err := x.out.failed(); err != nil {
			return nil, err
		}
		if types.KindOf(err) == types.KindNotFound {
			return nil, interrupted()
		}
		x.w.log.Debug("output stream broke and is taken up again", "task", x.j.Task.ID, "offset", x.out.next(), "error", err)
		if !pause(follow, refollow) {
			return nil, x.because(follow, err)
		}
	}
}

// because answers why following ended: the context's cause where there is one.
func (x *exec) because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// interrupt acts on the end of the job's context: a canceled command is ended, a
// worker that leaves only stops to follow.
func (x *exec) interrupt(follow context.Context, cause error, stop context.CancelCauseFunc) {
	if !errors.Is(cause, errCanceled) {
		stop(cause)
		return
	}
	for _, step := range []struct {
		signal syscall.Signal
		grace  time.Duration
	}{{syscall.SIGTERM, x.w.cfg.CancelGrace}, {syscall.SIGKILL, x.w.cfg.CancelGrace}} {
		if err := x.m.guest.Signal(follow, x.j.Task.ID, step.signal, false); err != nil && follow.Err() == nil {
			x.w.log.Debug("canceled command could not be signaled", "task", x.j.Task.ID, "error", err)
		}
		if !pause(follow, step.grace) {
			return // it ended
		}
	}
	// The agent does not bring it to an end: the task ends all the same.
	stop(cause)
}

// start starts the command, or finds it where an earlier attempt did. A command
// is never run twice: where it may have run and nobody knows of it any more, the
// task is interrupted.
func (x *exec) start(ctx context.Context, spec types.ExecSpec) error {
	again := x.j.Resumed || x.j.Task.Attempt > 1
	for {
		err := x.startOnce(ctx, spec, again)
		switch types.KindOf(err) {
		case types.KindUnavailable, types.KindTimeout:
		default:
			return err
		}
		// The answer may be lost and the process there: from now on look first.
		again = true
		if !pause(ctx, refollow) {
			return err
		}
	}
}

func (x *exec) startOnce(ctx context.Context, spec types.ExecSpec, again bool) error {
	if again {
		_, err := x.m.guest.Get(ctx, x.j.Task.ID)
		if err == nil {
			return nil
		}
		if types.KindOf(err) != types.KindNotFound {
			return err
		}
		if !x.neverStarted() {
			return interrupted()
		}
	}
	_, err := x.m.guest.Start(ctx, x.j.Task.ID, spec)
	return err
}

// neverStarted reports whether the agent's not knowing the command proves that
// it never ran: the agent remembers every exec of its life until it is told to
// forget, which happens only after the task has ended. So it is enough that the
// VM has been up since before the command could first be started.
func (x *exec) neverStarted() bool {
	first := x.j.Task.StartedAt
	if x.j.Task.Attempt > 1 {
		first = &x.j.Task.CreatedAt
	}
	up := x.j.VM.StartedAt
	return first != nil && up != nil && !up.After(*first)
}

func interrupted() error {
	return types.Errorf(types.KindInterrupted, "the command may have run before the VM or its worker restarted, and is not run again").
		WithRemedy("look at what it did, and execute it again if that is safe")
}

func (x *exec) event(e guest.FollowEvent) error {
	if e.Gap != nil {
		x.out.gap(e.Gap.Offset + e.Gap.Length)
		return nil
	}
	return x.out.add(*e.Chunk)
}

// ended makes the task's end from the command's.
func (x *exec) ended(ctx context.Context, st *agentapi.ExecStatus) (store.TaskEnd, error) {
	result := guest.ResultOf(st)
	x.out.fill(&result)
	end, err := resultEnd(result)
	if err != nil {
		return end, err
	}
	if errors.Is(context.Cause(ctx), errCanceled) {
		return end, errCanceled
	}
	if e := guest.ErrorOf(st); e != nil {
		return end, e
	}
	return end, nil
}

// cutOff is the end of a command whose VM ended under it.
func (x *exec) cutOff() (store.TaskEnd, error) {
	exit, wanted := x.m.exitOf(x.boot)
	err := types.Errorf(types.KindInterrupted, "the VM ended while the command ran: %s", exit.Reason)
	switch {
	case wanted != "":
		err = types.Errorf(types.KindInterrupted, "%s while the command ran", wanted)
	case exit.Kind == types.KindOutOfMemory:
		err = types.Errorf(types.KindOutOfMemory, "the VM ran out of memory while the command ran").
			WithRemedy("give the VM more memory_mib")
	}
	result := types.ExecResult{ExitCode: killedExit, Signal: "SIGKILL", Reason: err.Message, EndedAt: exit.At, OutputTruncated: true}
	if x.j.Task.StartedAt != nil {
		result.StartedAt = *x.j.Task.StartedAt
	}
	x.out.fill(&result)
	end, encodeErr := resultEnd(result)
	if encodeErr != nil {
		return end, encodeErr
	}
	return end, err
}

func (m *machine) exitOf(b *boot) (exit runtime.Exit, wanted string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return b.exit, b.wanted
}

func resultEnd(r types.ExecResult) (store.TaskEnd, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return store.TaskEnd{}, types.Errorf(types.KindInternal, "encode exec result: %w", err)
	}
	return store.TaskEnd{Result: data}, nil
}

// linger has the agent forget an ended command after attached clients have had
// time to read its last output. What a restart leaves unforgotten, adoption
// forgets.
func (w *Worker) linger(m *machine, id string) {
	w.background.Go(func() {
		if !pause(w.life, w.cfg.Linger) || m.current() == nil {
			return
		}
		ctx, cancel := context.WithTimeout(w.life, 10*time.Second)
		defer cancel()
		if err := m.guest.Forget(ctx, id); err != nil && w.life.Err() == nil {
			w.log.Debug("agent could not forget an exec", "task", id, "error", err)
		}
	})
}
