package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// tx is one transaction and the events that it will have made happen.
type tx struct {
	*sql.Tx
	s      *Store
	ctx    context.Context
	now    time.Time
	events []types.Event
}

// inTx runs fn in a transaction, again if it lost against another one, and tells
// of its events once they are committed. fn must not keep what an earlier run of
// it made.
func (s *Store) inTx(ctx context.Context, doing string, fn func(*tx) error) error {
	const tries = 8
	for n := 1; ; n++ {
		events, err := s.tryTx(ctx, fn)
		if err == nil {
			if s.onEvents != nil && len(events) > 0 {
				s.onEvents(events)
			}
			return nil
		}
		if !transient(err) || n == tries {
			return typed(doing, err)
		}
	}
}

func (s *Store) tryTx(ctx context.Context, fn func(*tx) error) ([]types.Event, error) {
	t, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	x := &tx{Tx: t, s: s, ctx: ctx, now: now()}
	defer func() { _ = t.Rollback() }() // after a commit this is a no-op
	if err := fn(x); err != nil {
		return nil, err
	}
	if err := x.recordEvents(); err != nil {
		return nil, err
	}
	return x.events, t.Commit()
}

func (x *tx) exec(query string, args ...any) (int64, error) {
	r, err := x.ExecContext(x.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (x *tx) event(e types.Event) {
	e.At = x.now
	x.events = append(x.events, e)
}

func (x *tx) vmEvent(vm types.VM) {
	x.event(types.Event{Type: types.EventVMState, VMID: vm.ID, WorkerID: vm.WorkerID, State: string(vm.State), Reason: vm.Reason})
}

func (x *tx) taskEvent(t types.Task) {
	x.event(types.Event{Type: types.EventTaskState, TaskID: t.ID, VMID: t.VMID, WorkerID: t.WorkerID, State: string(t.State), Reason: t.Reason})
}

// maxEvents is how many events one transaction can have: see dialect.eventID.
const maxEvents = 1 << 16

// recordEvents writes the transaction's events and learns their ids.
func (x *tx) recordEvents() error {
	if len(x.events) >= maxEvents {
		return types.Errorf(types.KindTooLarge, "one transaction makes %d events", len(x.events))
	}
	if len(x.events) == 0 {
		return nil
	}
	const most = 500 // rows in one statement
	for from := 0; from < len(x.events); from += most {
		if err := x.insertEvents(from, min(from+most, len(x.events))); err != nil {
			return err
		}
	}
	return nil
}

// insertEvents writes some of the events in one statement: every round trip is a
// part of what a task costs.
func (x *tx) insertEvents(from, to int) error {
	var p params
	var rows []string
	for i := from; i < to; i++ {
		e := x.events[i]
		rows = append(rows, fmt.Sprintf("(%s%d, ", x.s.eventID, i)+p.add(x.s.ts(e.At), e.Type, e.VMID, e.TaskID, e.WorkerID, e.State, e.Reason)+")")
	}
	ids, err := collect(x.ctx, x, func(r row) (id int64, err error) { return id, r.Scan(&id) },
		"INSERT INTO events (id, at, type, vm_id, task_id, worker_id, state, reason) VALUES "+strings.Join(rows, ", ")+" RETURNING id", p.args...)
	if err != nil {
		return err
	}
	for i, id := range ids {
		x.events[from+i].ID = id
	}
	return nil
}

// params collects a statement's arguments and numbers their places.
type params struct{ args []any }

// add answers the places of new arguments: "$4, $5".
func (p *params) add(args ...any) string {
	places := make([]string, len(args))
	for i, a := range args {
		p.args = append(p.args, a)
		places[i] = fmt.Sprintf("$%d", len(p.args))
	}
	return strings.Join(places, ", ")
}

// in answers "$4, $5" for the elements of a list; NULL for none, which no value
// is in.
func in[T any](p *params, list []T) string {
	if len(list) == 0 {
		return "NULL"
	}
	places := make([]string, len(list))
	for i, v := range list {
		places[i] = p.add(v)
	}
	return strings.Join(places, ", ")
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, q querier, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	list := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// row is *sql.Row or *sql.Rows.
type row interface{ Scan(dest ...any) error }
