package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

func placementOrder(t *testing.T, f fixture) {
	w := f.worker(1 << 20)
	vm := f.running("v", w)
	var want []string
	for _, p := range []types.Priority{types.PriorityLow, types.PriorityCritical, types.PriorityDefault, types.PriorityCritical} {
		task, _, err := f.CreateTask(t.Context(), types.Task{ID: id(), Type: types.TaskVMExecute, VMID: vm.ID, Priority: p}, store.Idempotency{})
		f.ok(err)
		want = append(want, task.ID)
	}
	placed := f.place(w)
	equal(f, len(placed), 4)
	for i, from := range []int{1, 3, 2, 0} {
		equal(f, placed[i].ID, want[from])
		equal(f, placed[i].Attempt, 1)
		equal(f, placed[i].State, types.TaskQueued)
	}
	got, err := f.GetTask(t.Context(), want[0])
	f.ok(err)
	equal(f, got.State, types.TaskQueued)
	equal(f, got.WorkerID, w.ID)
	equal(f, got.QueuedAt != nil, true)
	equal(f, len(f.place(w)), 0)
}

// fits places a create on the first worker that has the memory.
func fits(c store.Candidate) store.Decision {
	for _, w := range c.Workers {
		if w.Capacity.MemoryMiB-w.Reserved.MemoryMiB >= c.VM.MemoryMiB {
			return store.Decision{WorkerID: w.ID}
		}
	}
	return store.Decision{Wait: "no room"}
}

func placementReserve(t *testing.T, f fixture) {
	w := f.worker(600) // two VMs of 256
	for i := range 3 {
		f.create(fmt.Sprintf("v%d", i))
	}
	placed, err := f.PlacePending(t.Context(), 100, fits)
	f.ok(err)
	equal(f, len(placed), 2)
	got, err := f.GetWorker(t.Context(), w.ID)
	f.ok(err)
	equal(f, got.Reserved, types.Capacity{VCPUs: 2, MemoryMiB: 512, DiskMiB: 2048, VMs: 2})
	waiting, _, err := f.ListTasks(t.Context(), store.TaskFilter{States: []types.TaskState{types.TaskPending}})
	f.ok(err)
	equal(f, len(waiting), 1)
	equal(f, waiting[0].Reason, "no room")

	_, err = f.CancelTask(t.Context(), placed[0].ID)
	f.ok(err)
	placed, err = f.PlacePending(t.Context(), 100, fits)
	f.ok(err)
	equal(f, len(placed), 1)
	equal(f, placed[0].ID, waiting[0].ID)
}

func placementRace(t *testing.T, f fixture) {
	f.worker(10 * 256)
	for i := range 30 {
		f.create(fmt.Sprintf("v%d", i))
	}
	var mu sync.Mutex
	times := map[string]int{}
	together(6, func(int) {
		for range 5 {
			placed, err := f.PlacePending(t.Context(), 7, fits)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			for _, p := range placed {
				times[p.ID]++
			}
			mu.Unlock()
		}
	})
	equal(f, len(times), 10)
	for _, n := range times {
		equal(f, n, 1)
	}
}

func placementDecisions(t *testing.T, f fixture) {
	w := f.worker(4096)
	failing, task := f.create("failing")
	_, err := f.PlacePending(t.Context(), 10, func(store.Candidate) store.Decision {
		return store.Decision{Fail: types.Errorf(types.KindUnsupported, "never")}
	})
	f.ok(err)
	got, err := f.GetTask(t.Context(), task.ID)
	f.ok(err)
	equal(f, got.State, types.TaskFailed)
	equal(f, got.Error.Kind, types.KindUnsupported)
	vm, err := f.GetVM(t.Context(), failing.ID)
	f.ok(err)
	equal(f, vm.State, types.VMFailed)
	equal(f, vm.ReasonKind, types.KindUnsupported)

	for _, vm := range []types.VM{failing, f.running("runs", w)} {
		remove := f.submit(vm, types.TaskVMDelete)
		_, err = f.PlacePending(t.Context(), 10, func(store.Candidate) store.Decision { return store.Decision{Deleted: "nobody has it"} })
		f.ok(err)
		got, err = f.GetTask(t.Context(), remove.ID)
		f.ok(err)
		equal(f, got.State, types.TaskSucceeded)
		vm, err = f.GetVM(t.Context(), vm.ID)
		f.ok(err)
		equal(f, vm.State, types.VMDeleted)
		equal(f, vm.EndedAt != nil, true)
	}
	_, create := f.create("later")
	f.place(w)
	f.ok(f.ReleaseTask(t.Context(), create.ID, 1, time.Now().Add(time.Hour), "later"))
	equal(f, len(f.place(w)), 0)
}
