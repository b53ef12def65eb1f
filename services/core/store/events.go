package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

// EventFilter chooses events. Zero fields choose all.
type EventFilter struct {
	AfterID int64
	VMID    string
	TaskID  string
	Types   []string
	Limit   int // at most; 100 if zero
}

// Events answers events after an id, in the order of their ids. None that
// commits late is ever passed over: an event is shown once no earlier one can
// appear any more.
func (s *Store) Events(ctx context.Context, f EventFilter) ([]types.Event, error) {
	var p params
	where := []string{s.settled, "id > " + p.add(f.AfterID)}
	if f.VMID != "" {
		where = append(where, "vm_id = "+p.add(f.VMID))
	}
	if f.TaskID != "" {
		where = append(where, "task_id = "+p.add(f.TaskID))
	}
	if len(f.Types) > 0 {
		where = append(where, "type IN ("+in(&p, f.Types)+")")
	}
	if f.Limit <= 0 {
		f.Limit = defaultPage
	}
	list, err := collect(ctx, s.read, scanEvent, fmt.Sprintf("SELECT id, at, type, vm_id, task_id, worker_id, state, reason FROM events WHERE %s ORDER BY id LIMIT %d",
		strings.Join(where, " AND "), f.Limit), p.args...)
	return list, typed("read events", err)
}

func scanEvent(r row) (types.Event, error) {
	var e types.Event
	err := r.Scan(&e.ID, at(&e.At), &e.Type, &e.VMID, &e.TaskID, &e.WorkerID, &e.State, &e.Reason)
	return e, err
}

// LastEventID answers the id after which Events shows only what happens from now
// on; zero if nothing ever happened.
func (s *Store) LastEventID(ctx context.Context) (int64, error) {
	var id int64
	err := s.read.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM events WHERE "+s.settled).Scan(&id)
	return id, typed("read events", err)
}
