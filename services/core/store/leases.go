package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// ClaimTask makes a queued task run, for the worker and attempt that it was
// queued for and no other (else KindConflict), until the lease runs out. It
// answers the VM too, if the task has one.
func (s *Store) ClaimTask(ctx context.Context, id string, attempt int, workerID string, lease time.Duration) (types.Task, *types.VM, error) {
	var t types.Task
	var vm *types.VM
	err := s.inTx(ctx, "claim task "+id, func(x *tx) (err error) {
		vm = nil
		t, err = scanTask(x.QueryRowContext(x.ctx, `UPDATE tasks AS t SET state = 'running', reason = '', started_at = $4, lease_until = $5
			WHERE id = $1 AND attempt = $2 AND worker_id = $3 AND state = 'queued' RETURNING `+x.s.returning(taskColumns),
			id, attempt, workerID, x.s.ts(x.now), x.s.ts(x.now.Add(lease))))
		if errors.Is(err, sql.ErrNoRows) {
			return types.Errorf(types.KindConflict, "task %s is not queued for attempt %d on worker %s", id, attempt, workerID)
		}
		if err != nil {
			return err
		}
		x.taskEvent(t)
		if t.VMID != "" {
			v, err := x.readVM(t.VMID)
			if err != nil {
				return err
			}
			vm = &v
		}
		return nil
	})
	return t, vm, err
}

// Renewal is what a worker learns when it renews its leases.
type Renewal struct {
	Canceled []string // tasks that somebody wants canceled
	Lost     []string // tasks that are not the worker's any more
}

// RenewLeases keeps a worker's running tasks its own for another lease.
func (s *Store) RenewLeases(ctx context.Context, workerID string, ids []string, lease time.Duration) (Renewal, error) {
	var r Renewal
	err := s.inTx(ctx, "renew leases", func(x *tx) error {
		r = Renewal{}
		var p params
		query := "UPDATE tasks SET lease_until = " + p.add(x.s.ts(x.now.Add(lease))) +
			" WHERE state = 'running' AND worker_id = " + p.add(workerID) + " AND id IN (" + in(&p, ids) + ") RETURNING id, cancel_requested"
		held := make(map[string]bool, len(ids))
		rows, err := x.QueryContext(x.ctx, query, p.args...)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id string
			var canceled bool
			if err := rows.Scan(&id, &canceled); err != nil {
				return err
			}
			held[id] = true
			if canceled {
				r.Canceled = append(r.Canceled, id)
			}
		}
		for _, id := range ids {
			if !held[id] {
				r.Lost = append(r.Lost, id)
			}
		}
		return rows.Err()
	})
	return r, err
}

// ExpireLeases takes back the running tasks whose lease has run out: to be placed
// again, or failed where the attempts are used up. It answers them as they are
// then.
func (s *Store) ExpireLeases(ctx context.Context, now time.Time) ([]types.Task, error) {
	var tasks []types.Task
	err := s.inTx(ctx, "expire leases", func(x *tx) (err error) {
		tasks, err = collect(x.ctx, x, scanTask, "SELECT "+taskColumns+` FROM tasks t
			WHERE t.state = 'running' AND t.lease_until < $1 ORDER BY t.id LIMIT 1000`+x.s.skipLocked, x.s.ts(now))
		if err != nil {
			return err
		}
		for i := range tasks {
			if err := x.expire(&tasks[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return tasks, err
}

func (x *tx) expire(t *types.Task) error {
	reason := "the lease of worker " + t.WorkerID + " ran out"
	switch {
	case t.CancelRequested:
		t.State, t.Reason = types.TaskCanceled, reason+" while the task was being canceled"
		t.Error = types.Errorf(types.KindCanceled, "%s", t.Reason)
		return x.endTask(t)
	case t.Attempt >= t.MaxAttempts:
		t.State, t.Reason = types.TaskFailed, reason
		t.Error = types.Errorf(types.KindInterrupted, "%s at attempt %d of %d", reason, t.Attempt, t.MaxAttempts)
		return x.endTask(t)
	}
	t.State, t.Reason = types.TaskPending, reason
	_, err := x.exec("UPDATE tasks SET state = 'pending', reason = $2, not_before = $3, lease_until = NULL WHERE id = $1",
		t.ID, t.Reason, x.s.ts(x.now))
	if err == nil {
		x.taskEvent(*t)
	}
	return err
}

// StaleQueued answers tasks that were queued before a time and not claimed,
// oldest first.
func (s *Store) StaleQueued(ctx context.Context, queuedBefore time.Time, limit int) ([]types.Task, error) {
	list, err := collect(ctx, s.read, scanTask, "SELECT "+taskColumns+` FROM tasks t
		WHERE t.state = 'queued' AND t.queued_at < $1 ORDER BY t.queued_at LIMIT $2`, s.ts(queuedBefore), limit)
	return list, typed("list stale tasks", err)
}
