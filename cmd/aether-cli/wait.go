package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// waitFirst is how long the server may hold its first answer: most work is done
// by then, and a terminal has seen nothing move.
const waitFirst = 3 * time.Second

// finish waits until a task has ended, tells a terminal what it waits for, and
// answers its error if it did not succeed. Ctrl-C stops waiting, not the task.
func (a *app) finish(ctx context.Context, t types.Task) (types.Task, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, shown := terminal(a.err)
	var tell func(types.Task)
	if shown && !t.State.Ended() {
		began := time.Now()
		tell = func(t types.Task) {
			reason := t.Reason
			if reason == "" {
				reason = string(t.State)
			}
			_, _ = fmt.Fprintf(a.err, "\r\033[K%s: %s (%s)", t.Type, reason, time.Since(began).Round(time.Second))
		}
		defer func() { _, _ = fmt.Fprint(a.err, "\r\033[K") }()
	}
	t, err := a.client.WaitTask(ctx, t, tell)
	if err != nil {
		if ctx.Err() != nil {
			_, _ = fmt.Fprintf(a.err, "\nThe task goes on: aether-cli task get %s\n", t.ID)
		}
		return t, err
	}
	return t, taskError(t)
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
