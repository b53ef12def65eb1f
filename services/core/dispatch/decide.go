package dispatch

import (
	"fmt"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

// decide says where a pending task goes, what it waits for, or why it cannot be
// done any more. It only looks: the store acts on the answer in its transaction.
func decide(c store.Candidate) store.Decision {
	switch {
	case c.Task.Type == types.TaskVMCreate && c.VM != nil:
		return place(*c.VM, c.Workers)
	case c.VM != nil:
		return decideForVM(c.Task.Type, *c.VM, c.Workers)
	case c.Task.WorkerID != "":
		return onWorker(c.Task.WorkerID, c.Workers)
	}
	return store.Decision{Fail: types.Errorf(types.KindInternal, "task of type %s names neither VM nor worker", c.Task.Type)}
}

func decideForVM(t types.TaskType, vm types.VM, workers []types.Worker) store.Decision {
	if t == types.TaskVMDelete {
		return decideDelete(vm, workers)
	}
	switch vm.State {
	case types.VMPending, types.VMCreating:
		return wait("waits for VM %s to be running; it is %s", vm.Name, state(vm))
	case types.VMLost:
		return store.Decision{Fail: types.Errorf(types.KindUnavailable, "VM %s is lost: %s", vm.Name, vm.Reason).
			WithRemedy("delete the VM and create it anew")}
	}
	if err := types.Admit(vm, t); err != nil {
		return store.Decision{Fail: types.AsError(err)}
	}
	return onWorker(vm.WorkerID, workers)
}

func state(vm types.VM) string {
	if vm.Reason == "" {
		return string(vm.State)
	}
	return fmt.Sprintf("%s (%s)", vm.State, vm.Reason)
}

// decideDelete sends a delete to the VM's worker. Where no worker holds
// anything of the VM any more, the record is all that is left to end.
func decideDelete(vm types.VM, workers []types.Worker) store.Decision {
	if vm.WorkerID == "" {
		return recordOnly("deleted before any worker had it")
	}
	w := find(vm.WorkerID, workers)
	if w == nil || w.State == types.WorkerLost {
		return recordOnly("deleted while its worker was lost; what is left there is swept when the worker comes back")
	}
	return onWorker(vm.WorkerID, workers)
}

func recordOnly(reason string) store.Decision { return store.Decision{Deleted: reason} }

func onWorker(id string, workers []types.Worker) store.Decision {
	w := find(id, workers)
	switch {
	case w == nil:
		return store.Decision{Fail: types.Errorf(types.KindUnavailable, "worker %s is not known any more", id)}
	case w.State == types.WorkerReady:
		return store.Decision{WorkerID: id}
	case w.State == types.WorkerDraining:
		return wait("waits for worker %s, which is shutting down or restarting", w.Hostname)
	}
	return wait("waits for worker %s, which is lost since %s", w.Hostname, w.HeartbeatAt.UTC().Format("15:04:05 MST"))
}

func find(id string, workers []types.Worker) *types.Worker {
	for i := range workers {
		if workers[i].ID == id {
			return &workers[i]
		}
	}
	return nil
}

func wait(format string, args ...any) store.Decision {
	return store.Decision{Wait: fmt.Sprintf(format, args...)}
}
