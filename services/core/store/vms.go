package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

const vmColumns = `v.id, v.name, v.state, v.reason, v.reason_kind, v.version, v.image, v.image_digest, v.runtime,
	v.vcpus, v.memory_mib, v.disk_mib, v.env, v.labels, v.placement, v.network, v.worker_id, v.ip, v.created_at, v.started_at, v.ended_at`

func vmDest(v *types.VM) []any {
	return []any{&v.ID, &v.Name, &v.State, &v.Reason, &v.ReasonKind, &v.Version, &v.Image, &v.ImageDigest, &v.Runtime,
		&v.VCPUs, &v.MemoryMiB, &v.DiskMiB, fromJSON(&v.Env), fromJSON(&v.Labels), fromJSON(&v.Placement), &v.Network,
		&v.WorkerID, &v.IP, at(&v.CreatedAt), maybe(&v.StartedAt), maybe(&v.EndedAt)}
}

func scanVM(r row) (types.VM, error) {
	var v types.VM
	err := r.Scan(vmDest(&v)...)
	return v, err
}

// CreateVM accepts a VM: its row and its vm:create task, both pending, in one
// transaction. It answers the task; with an idempotency key that was used before,
// the task of then, and true.
func (s *Store) CreateVM(ctx context.Context, vm types.VM, task types.Task, idem Idempotency) (types.Task, bool, error) {
	var replayed bool
	var out types.Task
	err := s.inTx(ctx, "create a VM", func(x *tx) error {
		earlier, err := x.claimKey(idem, task.ID)
		if replayed = earlier != nil; err != nil || replayed {
			if replayed {
				out = *earlier
			}
			return err
		}
		vm := vm
		vm.State, vm.Version = types.VMPending, 1
		vm.CreatedAt = x.now
		task.VMID = vm.ID
		if err := x.insertVM(vm); err != nil {
			return err
		}
		x.vmEvent(vm)
		out, err = x.insertTask(task)
		return err
	})
	return out, replayed, err
}

func (x *tx) insertVM(v types.VM) error {
	var p params
	places := p.add(v.ID, v.Name, v.State, v.Reason, v.ReasonKind, v.Version, v.Image, v.ImageDigest, v.Runtime,
		v.VCPUs, v.MemoryMiB, v.DiskMiB, toJSON(v.Env), toJSON(v.Labels), toJSON(v.Placement), v.Network, v.WorkerID, v.IP,
		x.s.ts(v.CreatedAt), x.s.tsp(v.StartedAt), x.s.tsp(v.EndedAt))
	_, err := x.exec("INSERT INTO vms ("+strings.ReplaceAll(vmColumns, "v.", "")+") VALUES ("+places+")", p.args...)
	if duplicate(err) {
		return &types.Error{Kind: types.KindConflict, Field: "name", Value: v.Name,
			Message: "a VM of this name exists already", Remedy: "choose another name, or delete that VM first"}
	}
	return err
}

// GetVM answers the live VM of a name, or any VM of an id.
func (s *Store) GetVM(ctx context.Context, idOrName string) (types.VM, error) {
	v, err := scanVM(s.read.QueryRowContext(ctx, "SELECT "+vmColumns+` FROM vms v
		WHERE v.id = $1 OR (v.name = $1 AND v.state <> 'deleted') ORDER BY v.name = $1 DESC LIMIT 1`, idOrName))
	if errors.Is(err, sql.ErrNoRows) {
		return v, noVM(idOrName)
	}
	return v, typed("read VM "+idOrName, err)
}

func noVM(id string) *types.Error {
	return types.Errorf(types.KindNotFound, "there is no VM %q", id).WithRemedy("list the VMs for their names and ids")
}

// lockVM reads a VM by id for the rest of the transaction.
func (x *tx) lockVM(id string) (types.VM, error) {
	v, err := scanVM(x.QueryRowContext(x.ctx, "SELECT "+vmColumns+" FROM vms v WHERE v.id = $1"+x.s.forUpdate, id))
	if errors.Is(err, sql.ErrNoRows) {
		return v, noVM(id)
	}
	return v, err
}

// VMFilter chooses VMs. Zero fields choose all but the deleted ones.
type VMFilter struct {
	States   []types.VMState
	Labels   map[string]string
	Name     string // part of the name
	WorkerID string
	Limit    int    // at most; 100 if zero
	Cursor   string // from the page before
}

// ListVMs answers a page of VMs, newest first, and the cursor of the next.
func (s *Store) ListVMs(ctx context.Context, f VMFilter) ([]types.VM, string, error) {
	var p params
	var where []string
	if len(f.States) > 0 {
		where = append(where, "v.state IN ("+in(&p, f.States)+")")
	} else {
		where = append(where, "v.state <> 'deleted'")
	}
	for k, v := range f.Labels {
		where = append(where, fmt.Sprintf(s.labelIs, p.add(k), p.add(v)))
	}
	if f.Name != "" {
		where = append(where, "v.name LIKE "+p.add("%"+likeEscaper.Replace(f.Name)+"%")+` ESCAPE '\'`)
	}
	if f.WorkerID != "" {
		where = append(where, "v.worker_id = "+p.add(f.WorkerID))
	}
	return page(ctx, s, "list VMs", "SELECT "+vmColumns+" FROM vms v", "v.id", where, &p, f.Limit, f.Cursor, scanVM,
		func(v types.VM) string { return v.ID })
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// VMsOfWorker answers the VMs that a worker has, the deleted ones left out.
func (s *Store) VMsOfWorker(ctx context.Context, workerID string) ([]types.VM, error) {
	list, err := collect(ctx, s.read, scanVM, "SELECT "+vmColumns+" FROM vms v WHERE v.worker_id = $1 AND v.state <> 'deleted' ORDER BY v.id", workerID)
	return list, typed("list a worker's VMs", err)
}

// VMChange is a change of a VM's state, and what is learned with it.
type VMChange struct {
	ID          string
	From        []types.VMState // only from these; none: from any that the table allows
	To          types.VMState
	Reason      string
	ReasonKind  types.Kind
	ImageDigest *string
	IP          *string
}

// ChangeVM changes a VM's state if the transition table allows it from the state
// it is in; KindConflict if not. A VM that ends ends its waiting tasks too.
func (s *Store) ChangeVM(ctx context.Context, c VMChange) (types.VM, error) {
	var vm types.VM
	err := s.inTx(ctx, "change VM "+c.ID, func(x *tx) (err error) {
		vm, err = x.changeVM(c, "")
		return err
	})
	return vm, err
}

// changeVM does a VMChange for the task of an id, which is not itself ended.
func (x *tx) changeVM(c VMChange, byTask string) (types.VM, error) {
	vm, err := x.lockVM(c.ID)
	if err != nil {
		return vm, err
	}
	if (len(c.From) > 0 && !slices.Contains(c.From, vm.State)) || !vm.State.CanBecome(c.To) {
		return vm, types.Errorf(types.KindConflict, "VM %s is %s and cannot become %s", vm.Name, vm.State, c.To)
	}
	vm.State, vm.Reason, vm.ReasonKind = c.To, c.Reason, c.ReasonKind
	if c.ImageDigest != nil {
		vm.ImageDigest = *c.ImageDigest
	}
	if c.IP != nil {
		vm.IP = *c.IP
	}
	switch c.To {
	case types.VMRunning:
		if vm.StartedAt == nil {
			vm.StartedAt = &x.now
		}
	case types.VMDeleted:
		vm.EndedAt = &x.now
	}
	if err := x.saveVM(&vm); err != nil {
		return vm, err
	}
	return vm, x.endTasksOf(vm, byTask)
}

// saveVM writes what can change of a VM that this transaction has locked.
func (x *tx) saveVM(v *types.VM) error {
	v.Version++
	_, err := x.exec(`UPDATE vms SET state = $2, reason = $3, reason_kind = $4, version = $5, image_digest = $6, ip = $7,
		worker_id = $8, started_at = $9, ended_at = $10 WHERE id = $1`,
		v.ID, v.State, v.Reason, v.ReasonKind, v.Version, v.ImageDigest, v.IP, v.WorkerID, x.s.tsp(v.StartedAt), x.s.tsp(v.EndedAt))
	if err == nil {
		x.vmEvent(*v)
	}
	return err
}

// endTasksOf ends what waits for a VM that will never do it.
func (x *tx) endTasksOf(vm types.VM, but string) error {
	var state types.TaskState
	var taskErr *types.Error
	switch vm.State {
	case types.VMDeleting, types.VMDeleted:
		state = types.TaskCanceled
		taskErr = types.Errorf(types.KindCanceled, "VM %s was deleted", vm.Name)
	case types.VMFailed, types.VMLost:
		state = types.TaskFailed
		taskErr = types.Errorf(types.KindConflict, "VM %s is %s: %s", vm.Name, vm.State, vm.Reason).WithRemedy("delete the VM and create it anew")
	default:
		return nil
	}
	waiting, err := collect(x.ctx, x, scanTask, "SELECT "+taskColumns+` FROM tasks t
		WHERE t.vm_id = $1 AND t.id <> $2 AND t.type <> 'vm:delete' AND t.state IN ('pending', 'queued')`+x.s.forUpdate, vm.ID, but)
	if err != nil {
		return err
	}
	for _, t := range waiting {
		t.State, t.Error, t.Reason = state, taskErr, taskErr.Message
		if err := x.endTask(&t); err != nil {
			return err
		}
	}
	if state == types.TaskCanceled {
		return x.requestCancel("t.vm_id = $1 AND t.id <> $2 AND t.type <> 'vm:delete'", vm.ID, but)
	}
	return nil
}
