package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// waitFirst is how long the server may hold its first answer: most work is done
// by then, and a terminal has seen nothing move.
const waitFirst = time.Second

// firstWait is waitFirst if there is anything to wait for.
func firstWait(wait bool) time.Duration {
	if wait {
		return waitFirst
	}
	return 0
}

// finish waits until a task has ended, tells a terminal what it waits for, and
// answers its error if it did not succeed. Ctrl-C stops waiting, not the task.
func (a *app) finish(ctx context.Context, t types.Task) (types.Task, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var last atomic.Pointer[types.Task]
	last.Store(&t)
	var tell func(types.Task)
	if p := a.progress(func() string { return waitsFor(*last.Load()) }); p != nil {
		defer p.close()
		tell = func(t types.Task) { last.Store(&t) }
	}
	ended, err := a.client.WaitTask(ctx, t, tell)
	if err != nil {
		if ctx.Err() != nil {
			a.say("the task goes on; see aether-cli task get %s", t.ID)
		}
		return t, err
	}
	return ended, taskError(ended)
}

// waitsFor says what a task is doing, or what keeps it from doing it.
func waitsFor(t types.Task) string {
	if t.State.Ended() {
		return ""
	}
	return string(t.Type) + ": " + first(t.Reason, string(t.State))
}

// taskError is why a task did not succeed; nil if it did.
func taskError(t types.Task) error {
	switch {
	case t.State == types.TaskSucceeded:
		return nil
	case t.Error != nil:
		return t.Error
	case t.State == types.TaskCanceled:
		return types.Errorf(types.KindCanceled, "the task was canceled: %s", t.Reason)
	}
	return types.Errorf(types.KindInternal, "the task ended %s: %s", t.State, t.Reason)
}
