package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

const taskColumns = `t.id, t.type, t.state, t.priority, t.vm_id, t.worker_id, t.attempt, t.max_attempts, t.reason,
	t.cancel_requested, t.payload, t.result, t.error, t.created_at, t.queued_at, t.started_at, t.ended_at`

func taskDest(t *types.Task) []any {
	return []any{&t.ID, &t.Type, &t.State, &t.Priority, &t.VMID, &t.WorkerID, &t.Attempt, &t.MaxAttempts, &t.Reason,
		&t.CancelRequested, fromJSON(&t.Payload), fromJSON(&t.Result), fromJSON(&t.Error),
		at(&t.CreatedAt), maybe(&t.QueuedAt), maybe(&t.StartedAt), maybe(&t.EndedAt)}
}

func scanTask(r row) (types.Task, error) {
	var t types.Task
	err := r.Scan(taskDest(&t)...)
	return t, err
}

// CreateTask accepts a task, pending. The VM of a VM task must be in a state that
// admits it; that of a vm:delete which is under way already answers that task,
// and true, as does an idempotency key that was used before.
func (s *Store) CreateTask(ctx context.Context, task types.Task, idem Idempotency) (types.Task, bool, error) {
	var out types.Task
	var replayed bool
	err := s.inTx(ctx, "create a task", func(x *tx) error {
		earlier, err := x.claimKey(idem, task.ID)
		if err == nil && earlier == nil && task.VMID != "" {
			earlier, err = x.admit(task)
		}
		if replayed = earlier != nil; err != nil || replayed {
			if replayed {
				out = *earlier
			}
			return err
		}
		out, err = x.insertTask(task)
		return err
	})
	return out, replayed, err
}

// admit checks a task against its VM, and answers a delete that is under way.
func (x *tx) admit(task types.Task) (*types.Task, error) {
	read := x.lockVM
	if task.Type == types.TaskVMExecute {
		// Execs do not exclude each other, nor need they: whatever becomes of the VM
		// meanwhile, the dispatcher looks again.
		read = x.readVM
	}
	vm, err := read(task.VMID)
	if err != nil {
		return nil, err
	}
	if err := types.Admit(vm, task.Type); err != nil {
		return nil, err
	}
	if task.Type != types.TaskVMDelete {
		return nil, nil
	}
	t, err := scanTask(x.QueryRowContext(x.ctx, "SELECT "+taskColumns+` FROM tasks t
		WHERE t.vm_id = $1 AND t.type = 'vm:delete' AND t.state IN ('pending', 'queued', 'running') ORDER BY t.id LIMIT 1`, vm.ID))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &t, err
}

func (x *tx) readVM(id string) (types.VM, error) {
	v, err := scanVM(x.QueryRowContext(x.ctx, "SELECT "+vmColumns+" FROM vms v WHERE v.id = $1", id))
	if errors.Is(err, sql.ErrNoRows) {
		return v, noVM(id)
	}
	return v, err
}

const defaultAttempts = 3

func (x *tx) insertTask(t types.Task) (types.Task, error) {
	if t.Priority == "" {
		t.Priority = types.PriorityDefault
	}
	if t.MaxAttempts == 0 {
		t.MaxAttempts = defaultAttempts
	}
	t.State, t.CreatedAt = types.TaskPending, x.now
	var p params
	places := p.add(t.ID, t.Type, t.State, t.Priority, slices.Index(types.Priorities(), t.Priority), t.VMID, t.WorkerID,
		t.Attempt, t.MaxAttempts, t.Reason, toJSON(t.Payload), x.s.ts(t.CreatedAt), x.s.ts(t.CreatedAt))
	_, err := x.exec(`INSERT INTO tasks (id, type, state, priority, rank, vm_id, worker_id,
		attempt, max_attempts, reason, payload, created_at, not_before) VALUES (`+places+")", p.args...)
	if err == nil {
		x.taskEvent(t)
	}
	return t, err
}

// GetTask answers a task.
func (s *Store) GetTask(ctx context.Context, id string) (types.Task, error) {
	t, err := scanTask(s.read.QueryRowContext(ctx, "SELECT "+taskColumns+" FROM tasks t WHERE t.id = $1", id))
	if errors.Is(err, sql.ErrNoRows) {
		return t, noTask(id)
	}
	return t, typed("read task "+id, err)
}

func noTask(id string) *types.Error {
	return types.Errorf(types.KindNotFound, "there is no task %q", id).WithRemedy("list the tasks for their ids")
}

// TaskFilter chooses tasks. Zero fields choose all.
type TaskFilter struct {
	States   []types.TaskState
	Types    []types.TaskType
	VMID     string
	WorkerID string
	Limit    int    // at most; 100 if zero
	Cursor   string // from the page before
}

// ListTasks answers a page of tasks, newest first, and the cursor of the next.
func (s *Store) ListTasks(ctx context.Context, f TaskFilter) ([]types.Task, string, error) {
	var p params
	var where []string
	if len(f.States) > 0 {
		where = append(where, "t.state IN ("+in(&p, f.States)+")")
	}
	if len(f.Types) > 0 {
		where = append(where, "t.type IN ("+in(&p, f.Types)+")")
	}
	if f.VMID != "" {
		where = append(where, "t.vm_id = "+p.add(f.VMID))
	}
	if f.WorkerID != "" {
		where = append(where, "t.worker_id = "+p.add(f.WorkerID))
	}
	return page(ctx, s, "list tasks", "SELECT "+taskColumns+" FROM tasks t", "t.id", where, &p, f.Limit, f.Cursor, scanTask,
		func(t types.Task) string { return t.ID })
}

// RunningTasks answers the tasks that a worker has claimed and not ended.
func (s *Store) RunningTasks(ctx context.Context, workerID string) ([]types.Task, error) {
	list, err := collect(ctx, s.read, scanTask, "SELECT "+taskColumns+" FROM tasks t WHERE t.worker_id = $1 AND t.state = 'running' ORDER BY t.id", workerID)
	return list, typed("list a worker's running tasks", err)
}

// lockTask reads a task for the rest of the transaction.
func (x *tx) lockTask(id string) (types.Task, error) {
	t, err := scanTask(x.QueryRowContext(x.ctx, "SELECT "+taskColumns+" FROM tasks t WHERE t.id = $1"+x.s.forUpdate, id))
	if errors.Is(err, sql.ErrNoRows) {
		return t, noTask(id)
	}
	return t, err
}

// CancelTask ends a task that waits, at once, and its VM with it if the task
// would have made it. One that runs is marked, and its worker told. One that has
// ended is KindConflict.
func (s *Store) CancelTask(ctx context.Context, id string) (types.Task, error) {
	var t types.Task
	err := s.inTx(ctx, "cancel task "+id, func(x *tx) (err error) {
		if t, err = x.lockTask(id); err != nil {
			return err
		}
		switch {
		case t.State.Ended():
			return types.Errorf(types.KindConflict, "task %s has ended already: it is %s", id, t.State)
		case t.State == types.TaskRunning:
			t.CancelRequested = true
			return x.requestCancel("t.id = $1", id)
		}
		t.State = types.TaskCanceled
		t.Error = types.Errorf(types.KindCanceled, "canceled on request")
		t.Reason = t.Error.Message
		if err := x.endTask(&t); err != nil || t.Type != types.TaskVMCreate {
			return err
		}
		_, err = x.dropVM(t.VMID, "its create was canceled", t.ID)
		return err
	})
	return t, err
}

// dropVM ends the record of a VM of which no worker holds anything.
func (x *tx) dropVM(id, reason, byTask string) (types.VM, error) {
	vm, err := x.lockVM(id)
	if err != nil || vm.State == types.VMDeleted {
		return vm, err
	}
	if !vm.State.CanBecome(types.VMDeleted) {
		if vm, err = x.changeVM(VMChange{ID: id, To: types.VMDeleting, Reason: reason}, byTask); err != nil {
			return vm, err
		}
	}
	return x.changeVM(VMChange{ID: id, To: types.VMDeleted, Reason: reason}, byTask)
}

// requestCancel marks running tasks and tells whoever runs them.
func (x *tx) requestCancel(where string, args ...any) error {
	tasks, err := collect(x.ctx, x, scanTask, "SELECT "+taskColumns+" FROM tasks t WHERE "+where+
		" AND t.state = 'running' AND NOT t.cancel_requested"+x.s.forUpdate, args...)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if _, err := x.exec("UPDATE tasks SET cancel_requested = true WHERE id = $1", t.ID); err != nil {
			return err
		}
		x.event(types.Event{Type: types.EventTaskCancel, TaskID: t.ID, VMID: t.VMID, WorkerID: t.WorkerID, State: string(t.State)})
	}
	return nil
}

// TaskEnd is how a task ends.
type TaskEnd struct {
	State  types.TaskState
	Result json.RawMessage
	Error  *types.Error
	Reason string
	VM     *VMChange // done in the same transaction
}

// FinishTask ends a running task and changes its VM, in one transaction. A task
// that this attempt does not hold any more is KindConflict, as is a VM that
// cannot change so; then nothing is changed.
func (s *Store) FinishTask(ctx context.Context, id string, attempt int, end TaskEnd) (types.Task, error) {
	var t types.Task
	err := s.inTx(ctx, "finish task "+id, func(x *tx) (err error) {
		if end.VM != nil {
			// VM before task, as everywhere, so that no two transactions wait for
			// each other.
			if _, err := x.changeVM(*end.VM, id); err != nil {
				return err
			}
		}
		t, err = scanTask(x.QueryRowContext(x.ctx, `UPDATE tasks AS t SET state = $3, result = $4, error = $5, reason = $6, ended_at = $7, lease_until = NULL
			WHERE id = $1 AND attempt = $2 AND state = 'running' RETURNING `+x.s.returning(taskColumns),
			id, attempt, end.State, toJSON(end.Result), toJSON(end.Error), end.Reason, x.s.ts(x.now)))
		if errors.Is(err, sql.ErrNoRows) {
			return notHeld(id, attempt)
		}
		if err == nil {
			x.taskEvent(t)
		}
		return err
	})
	return t, err
}

func notHeld(id string, attempt int) *types.Error {
	return types.Errorf(types.KindConflict, "attempt %d does not hold task %s", attempt, id)
}

// endTask writes the end of a task that this transaction has locked.
func (x *tx) endTask(t *types.Task) error {
	t.EndedAt = &x.now
	_, err := x.exec("UPDATE tasks SET state = $2, error = $3, reason = $4, ended_at = $5, lease_until = NULL WHERE id = $1",
		t.ID, t.State, toJSON(t.Error), t.Reason, x.s.ts(x.now))
	if err == nil {
		x.taskEvent(*t)
	}
	return err
}

// ReleaseTask gives back a task that an attempt holds, queued or running, to be
// placed again, not before a time (zero: at once).
func (s *Store) ReleaseTask(ctx context.Context, id string, attempt int, notBefore time.Time, reason string) error {
	return s.inTx(ctx, "release task "+id, func(x *tx) error {
		if notBefore.IsZero() {
			notBefore = x.now
		}
		t, err := scanTask(x.QueryRowContext(x.ctx, `UPDATE tasks AS t SET state = 'pending', reason = $3, not_before = $4, lease_until = NULL
			WHERE id = $1 AND attempt = $2 AND state IN ('queued', 'running') RETURNING `+x.s.returning(taskColumns),
			id, attempt, reason, x.s.ts(notBefore)))
		if errors.Is(err, sql.ErrNoRows) {
			return notHeld(id, attempt)
		}
		if err == nil {
			x.taskEvent(t)
		}
		return err
	})
}

// returning is a column list as RETURNING takes it: SQLite knows no alias there.
func (d dialect) returning(columns string) string {
	if d.postgres {
		return columns
	}
	return strings.ReplaceAll(columns, "t.", "")
}
