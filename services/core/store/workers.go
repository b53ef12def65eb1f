package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

const workerColumns = "w.id, w.hostname, w.state, w.address, w.labels, w.runtimes, w.capacity, w.version, w.started_at, w.heartbeat_at"

func scanWorker(r row) (types.Worker, error) {
	var w types.Worker
	err := r.Scan(&w.ID, &w.Hostname, &w.State, &w.Address, fromJSON(&w.Labels), fromJSON(&w.Runtimes), fromJSON(&w.Capacity),
		&w.Version, at(&w.StartedAt), at(&w.HeartbeatAt))
	return w, err
}

// RegisterWorker records a worker as it starts, or as what it says of itself
// changes. A worker that was lost is back by this.
func (s *Store) RegisterWorker(ctx context.Context, w types.Worker) error {
	return s.inTx(ctx, "register worker "+w.ID, func(x *tx) error {
		runtimes := w.Runtimes
		if runtimes == nil {
			runtimes = []types.RuntimeStatus{}
		}
		_, err := x.exec(`INSERT INTO workers (id, hostname, state, address, labels, runtimes, capacity, version, started_at, heartbeat_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (id) DO UPDATE SET hostname = excluded.hostname, state = excluded.state, address = excluded.address,
				labels = excluded.labels, runtimes = excluded.runtimes, capacity = excluded.capacity, version = excluded.version,
				started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at`,
			w.ID, w.Hostname, w.State, w.Address, toJSON(w.Labels), toJSON(runtimes), toJSON(w.Capacity), w.Version, s.ts(w.StartedAt), s.ts(x.now))
		if err != nil {
			return err
		}
		// A worker that proved a runtime may set a waiting task free: always tell.
		x.workerEvent(w.ID, w.State, "")
		return nil
	})
}

func (x *tx) workerEvent(id string, state types.WorkerState, reason string) {
	x.event(types.Event{Type: types.EventWorkerState, WorkerID: id, State: string(state), Reason: reason})
}

// workerState locks a worker and answers its state; empty if there is none.
func (x *tx) workerState(id string) (types.WorkerState, error) {
	var state types.WorkerState
	err := x.QueryRowContext(x.ctx, "SELECT state FROM workers WHERE id = $1"+x.s.forUpdate, id).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return state, err
}

func noWorker(id string) *types.Error {
	return types.Errorf(types.KindNotFound, "there is no worker %q", id).WithRemedy("list the workers for their ids")
}

// Heartbeat records that a worker lived at a time. A worker that was lost
// meanwhile is KindConflict: it must register again.
func (s *Store) Heartbeat(ctx context.Context, id string, now time.Time) error {
	return s.inTx(ctx, "heartbeat of worker "+id, func(x *tx) error {
		n, err := x.exec("UPDATE workers SET heartbeat_at = $2 WHERE id = $1 AND state <> 'lost'", id, s.ts(now))
		if err == nil && n == 0 {
			return types.Errorf(types.KindConflict, "worker %s is not registered, or was given up as lost", id)
		}
		return err
	})
}

// SetWorkerState changes a worker's standing.
func (s *Store) SetWorkerState(ctx context.Context, id string, state types.WorkerState) error {
	return s.inTx(ctx, "change worker "+id, func(x *tx) error {
		before, err := x.workerState(id)
		if err != nil || before == state {
			return err
		}
		if before == "" {
			return noWorker(id)
		}
		_, err = x.exec("UPDATE workers SET state = $2 WHERE id = $1", id, state)
		x.workerEvent(id, state, "")
		return err
	})
}

// GetWorker answers a worker and what is reserved on it.
func (s *Store) GetWorker(ctx context.Context, id string) (types.Worker, error) {
	list, err := s.workers(ctx, s.read, "WHERE w.id = $1", id)
	if err == nil && len(list) == 0 {
		return types.Worker{}, noWorker(id)
	}
	if err != nil {
		return types.Worker{}, typed("read worker "+id, err)
	}
	return list[0], nil
}

// ListWorkers answers all workers and what is reserved on each, by id.
func (s *Store) ListWorkers(ctx context.Context) ([]types.Worker, error) {
	list, err := s.workers(ctx, s.read, "")
	return list, typed("list workers", err)
}

// lockWorkers is ListWorkers for the rest of the transaction: nobody else places
// anything meanwhile.
func (x *tx) lockWorkers() ([]types.Worker, error) {
	return x.s.workers(x.ctx, x, x.s.lockClause())
}

func (d dialect) lockClause() string {
	if d.postgres {
		return "ORDER BY w.id FOR UPDATE"
	}
	return "ORDER BY w.id"
}

// workers reads workers, then, in a second statement so that it sees what others
// committed while the first one waited for locks, their reservations: a VM that
// is not ended takes its disk, and unless it is stopped its CPUs and memory.
func (s *Store) workers(ctx context.Context, q querier, rest string, args ...any) ([]types.Worker, error) {
	list, err := collect(ctx, q, scanWorker, "SELECT "+workerColumns+" FROM workers w "+rest, args...)
	if err != nil {
		return nil, err
	}
	rows, err := q.QueryContext(ctx, `SELECT worker_id,
			sum(CASE WHEN state = 'stopped' THEN 0 ELSE vcpus END), sum(CASE WHEN state = 'stopped' THEN 0 ELSE memory_mib END), sum(disk_mib), count(*)
		FROM vms WHERE state IN ('pending', 'creating', 'running', 'paused', 'stopped', 'deleting') AND worker_id <> '' GROUP BY worker_id`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		var c types.Capacity
		if err := rows.Scan(&id, &c.VCPUs, &c.MemoryMiB, &c.DiskMiB, &c.VMs); err != nil {
			return nil, err
		}
		for i := range list {
			if list[i].ID == id {
				list[i].Reserved = c
			}
		}
	}
	return list, rows.Err()
}

// MarkLostWorkers gives up the workers whose last heartbeat is older than a time,
// and all their VMs. It answers those workers.
func (s *Store) MarkLostWorkers(ctx context.Context, heartbeatBefore time.Time) ([]types.Worker, error) {
	var lost []types.Worker
	err := s.inTx(ctx, "give up silent workers", func(x *tx) (err error) {
		lost, err = collect(x.ctx, x, scanWorker, "SELECT "+workerColumns+" FROM workers w WHERE w.state <> 'lost' AND w.heartbeat_at < $1 ORDER BY w.id"+
			s.forUpdate, s.ts(heartbeatBefore))
		if err != nil {
			return err
		}
		for i := range lost {
			if err := x.loseWorker(&lost[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return lost, err
}

func (x *tx) loseWorker(w *types.Worker) error {
	w.State = types.WorkerLost
	if _, err := x.exec("UPDATE workers SET state = 'lost' WHERE id = $1", w.ID); err != nil {
		return err
	}
	reason := "no heartbeat since " + w.HeartbeatAt.Format(time.RFC3339)
	x.workerEvent(w.ID, w.State, reason)
	vms, err := collect(x.ctx, x, scanVM, "SELECT "+vmColumns+" FROM vms v WHERE v.worker_id = $1 AND v.state <> 'deleted' ORDER BY v.id"+x.s.forUpdate, w.ID)
	if err != nil {
		return err
	}
	for _, vm := range vms {
		switch {
		case vm.State == types.VMPending:
			// Nothing of it was made yet: its create may go elsewhere.
			vm.WorkerID = ""
			err = x.saveVM(&vm)
		case vm.State.CanBecome(types.VMLost):
			_, err = x.changeVM(VMChange{ID: vm.ID, To: types.VMLost, ReasonKind: types.KindUnavailable, Reason: "worker " + w.Hostname + " is lost: " + reason}, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// PutWorkerImage records an image that a worker has.
func (s *Store) PutWorkerImage(ctx context.Context, i types.WorkerImage) error {
	return s.inTx(ctx, "record an image", func(x *tx) error {
		n, err := x.exec(`INSERT INTO worker_images (worker_id, digest, ref, size_bytes, layers, pulled_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (worker_id, digest, ref) DO NOTHING`, i.WorkerID, i.Digest, i.Ref, i.SizeBytes, i.Layers, s.ts(i.PulledAt))
		if err == nil && n > 0 {
			x.event(types.Event{Type: types.EventImagePulled, WorkerID: i.WorkerID, Reason: i.Ref})
		}
		return err
	})
}

// RemoveWorkerImage forgets an image that a worker has not any more.
func (s *Store) RemoveWorkerImage(ctx context.Context, workerID, digest string) error {
	return s.inTx(ctx, "forget an image", func(x *tx) error {
		_, err := x.exec("DELETE FROM worker_images WHERE worker_id = $1 AND digest = $2", workerID, digest)
		return err
	})
}

// ListImages answers the images of all workers, by reference.
func (s *Store) ListImages(ctx context.Context) ([]types.WorkerImage, error) {
	list, err := collect(ctx, s.read, func(r row) (types.WorkerImage, error) {
		var i types.WorkerImage
		err := r.Scan(&i.WorkerID, &i.Digest, &i.Ref, &i.SizeBytes, &i.Layers, at(&i.PulledAt))
		return i, err
	}, "SELECT worker_id, digest, ref, size_bytes, layers, pulled_at FROM worker_images ORDER BY ref, worker_id, digest")
	return list, typed("list images", err)
}
