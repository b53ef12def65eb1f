package store

import (
	"context"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

// Candidate is a pending task that may be placed now, with all that a decision
// needs. Workers are shared between candidates and are kept up to date: what a
// decision reserves is taken when the next one is asked for.
type Candidate struct {
	Task    types.Task
	VM      *types.VM // nil for tasks without one
	Workers []types.Worker
}

// Decision is what becomes of a candidate. One of its fields is set.
type Decision struct {
	WorkerID string       // queue it for this worker
	Wait     string       // leave it pending, for this reason
	Fail     *types.Error // end it
	Deleted  string       // vm:delete of a VM that no worker holds: end VM and task, for this reason
}

// PlacePending decides on at most limit pending tasks whose time has come, by
// priority, then age, in one transaction; other dispatchers pass over them
// meanwhile. A task that is placed becomes queued with its next attempt, and a
// VM that is created so is its worker's from then on. It answers those tasks.
func (s *Store) PlacePending(ctx context.Context, limit int, decide func(Candidate) Decision) ([]types.Task, error) {
	var placed []types.Task
	err := s.inTx(ctx, "place tasks", func(x *tx) error {
		placed = nil
		found, err := x.candidates(limit)
		if err != nil || len(found) == 0 {
			return err
		}
		workers, err := x.lockWorkers()
		if err != nil {
			return err
		}
		p := placement{tx: x, workers: workers}
		for _, c := range found {
			c.Workers = workers
			if err := p.act(c, decide(c)); err != nil {
				return err
			}
		}
		placed = p.placed
		return p.flush()
	})
	return placed, err
}

func (x *tx) candidates(limit int) ([]Candidate, error) {
	tasks, err := collect(x.ctx, x, scanTask, "SELECT "+taskColumns+` FROM tasks t
		WHERE t.state = 'pending' AND t.not_before <= $1 ORDER BY t.rank, t.id LIMIT $2`+x.s.skipLocked, x.s.ts(x.now), limit)
	if err != nil || len(tasks) == 0 {
		return nil, err
	}
	var p params
	var ids []string
	seen := map[string]bool{"": true}
	for _, t := range tasks {
		if !seen[t.VMID] {
			seen[t.VMID] = true
			ids = append(ids, t.VMID)
		}
	}
	vms := make(map[string]*types.VM, len(ids))
	if len(ids) > 0 {
		list, err := collect(x.ctx, x, scanVM, "SELECT "+vmColumns+" FROM vms v WHERE v.id IN ("+in(&p, ids)+")", p.args...)
		if err != nil {
			return nil, err
		}
		for i := range list {
			vms[list[i].ID] = &list[i]
		}
	}
	found := make([]Candidate, len(tasks))
	for i, t := range tasks {
		found[i] = Candidate{Task: t, VM: vms[t.VMID]}
	}
	return found, nil
}

// placement gathers what one transaction places, so that it is written with few
// statements however many tasks there are.
type placement struct {
	*tx
	workers []types.Worker
	placed  []types.Task
}

func (p *placement) act(c Candidate, d Decision) error {
	t := c.Task
	switch {
	case d.WorkerID != "":
		t.State, t.WorkerID, t.Attempt, t.Reason, t.QueuedAt = types.TaskQueued, d.WorkerID, t.Attempt+1, "", &p.now
		p.placed = append(p.placed, t)
		p.taskEvent(t)
		if t.Type == types.TaskVMCreate && c.VM != nil {
			return p.reserve(c.VM, d.WorkerID)
		}
		return nil
	case d.Fail != nil:
		t.State, t.Error, t.Reason = types.TaskFailed, d.Fail, d.Fail.Message
		if err := p.endTask(&t); err != nil || t.Type != types.TaskVMCreate || c.VM == nil || !c.VM.State.CanBecome(types.VMFailed) {
			return err
		}
		_, err := p.changeVM(VMChange{ID: c.VM.ID, To: types.VMFailed, Reason: d.Fail.Message, ReasonKind: d.Fail.Kind}, t.ID)
		return err
	case d.Deleted != "":
		vm, err := p.dropVM(t.VMID, d.Deleted, t.ID)
		if err != nil {
			return err
		}
		if c.VM != nil {
			*c.VM = vm
		}
		t.State, t.Reason = types.TaskSucceeded, d.Deleted
		return p.endTask(&t)
	case d.Wait != t.Reason:
		t.Reason = d.Wait
		_, err := p.exec("UPDATE tasks SET reason = $2 WHERE id = $1", t.ID, t.Reason)
		p.taskEvent(t)
		return err
	}
	return nil
}

// reserve gives a VM to a worker, and takes its share there.
func (p *placement) reserve(vm *types.VM, workerID string) error {
	if vm.WorkerID == workerID {
		return nil // placed before; its share is taken
	}
	old := vm.WorkerID
	vm.WorkerID = workerID
	for i := range p.workers {
		switch p.workers[i].ID {
		case workerID:
			add(&p.workers[i].Reserved, *vm, 1)
		case old:
			add(&p.workers[i].Reserved, *vm, -1)
		}
	}
	_, err := p.exec("UPDATE vms SET worker_id = $2, version = version + 1 WHERE id = $1", vm.ID, workerID)
	vm.Version++
	return err
}

func add(c *types.Capacity, vm types.VM, sign int) {
	c.VCPUs += sign * vm.VCPUs
	c.MemoryMiB += sign * vm.MemoryMiB
	c.DiskMiB += sign * vm.DiskMiB
	c.VMs += sign
}

// flush writes all placed tasks.
func (p *placement) flush() error {
	const most = 500
	for from := 0; from < len(p.placed); from += most {
		var a params
		var rows []string
		queued := a.add(p.s.ts(p.now))
		for _, t := range p.placed[from:min(from+most, len(p.placed))] {
			rows = append(rows, "("+a.add(t.ID, t.WorkerID)+")")
		}
		if _, err := p.exec("WITH v (id, worker_id) AS (VALUES "+strings.Join(rows, ", ")+`)
			UPDATE tasks SET state = 'queued', worker_id = v.worker_id, attempt = attempt + 1, reason = '', queued_at = `+queued+`
			FROM v WHERE v.id = tasks.id`, a.args...); err != nil {
			return err
		}
	}
	return nil
}
