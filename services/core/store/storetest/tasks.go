package storetest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

func taskAdmission(t *testing.T, f fixture) {
	vm := f.running("v", f.worker(4096))
	_, err := f.ChangeVM(t.Context(), store.VMChange{ID: vm.ID, To: types.VMStopped})
	f.ok(err)
	_, _, err = f.CreateTask(t.Context(), types.Task{ID: id(), Type: types.TaskVMExecute, VMID: vm.ID}, store.Idempotency{})
	if e := f.kind(err, types.KindConflict); e.Remedy == "" {
		t.Fatal("no remedy")
	}
	_, _, err = f.CreateTask(t.Context(), types.Task{ID: id(), Type: types.TaskVMExecute, VMID: id()}, store.Idempotency{})
	f.kind(err, types.KindNotFound)
	first := f.submit(vm, types.TaskVMDelete)
	var others atomic.Int32
	together(4, func(int) {
		second, replayed, err := f.CreateTask(t.Context(), types.Task{ID: id(), Type: types.TaskVMDelete, VMID: vm.ID}, store.Idempotency{})
		if err != nil || !replayed || second.ID != first.ID {
			others.Add(1)
		}
	})
	equal(f, others.Load(), 0)
}

func taskCancel(t *testing.T, f fixture) {
	w := f.worker(4096)
	vm := f.running("v", w)
	pending := f.submit(vm, types.TaskVMExecute)
	got, err := f.CancelTask(t.Context(), pending.ID)
	f.ok(err)
	equal(f, got.State, types.TaskCanceled)
	equal(f, got.Error.Kind, types.KindCanceled)
	_, err = f.CancelTask(t.Context(), pending.ID)
	f.kind(err, types.KindConflict)
	_, err = f.CancelTask(t.Context(), id())
	f.kind(err, types.KindNotFound)

	runs := f.submit(vm, types.TaskVMExecute)
	f.place(w)
	f.claim(runs.ID, w)
	got, err = f.CancelTask(t.Context(), runs.ID)
	f.ok(err)
	equal(f, got.State, types.TaskRunning)
	equal(f, got.CancelRequested, true)
	r, err := f.RenewLeases(t.Context(), w.ID, []string{runs.ID}, time.Minute)
	f.ok(err)
	equal(f, len(r.Canceled), 1)
}

func taskList(t *testing.T, f fixture) {
	w := f.worker(4096)
	vm := f.running("v", w)
	exec := f.submit(vm, types.TaskVMExecute)
	for filter, n := range map[*store.TaskFilter]int{
		{}: 2,
		{States: []types.TaskState{types.TaskPending}}:                     1,
		{Types: []types.TaskType{types.TaskVMCreate, types.TaskVMExecute}}: 2,
		{Types: []types.TaskType{types.TaskVMStop}}:                        0,
		{VMID: vm.ID}:    2,
		{VMID: id()}:     0,
		{WorkerID: w.ID}: 1,
		{Limit: 1}:       1,
	} {
		list, next, err := f.ListTasks(t.Context(), *filter)
		f.ok(err)
		if len(list) != n || (next != "") != (filter.Limit == 1) {
			t.Errorf("%+v: %d tasks and cursor %q, want %d", *filter, len(list), next, n)
		}
	}
	got, err := f.GetTask(t.Context(), exec.ID)
	f.ok(err)
	if string(got.Payload) != `{"command":"true"}` && string(got.Payload) != `{"command": "true"}` {
		t.Fatalf("payload is %s", got.Payload)
	}
}

func taskIdempotency(t *testing.T, f fixture) {
	key := store.Idempotency{Key: "k", RequestHash: "h"}
	vm := vmSpec("idem")
	first, replayed, err := f.CreateVM(t.Context(), vm, types.Task{ID: id(), Type: types.TaskVMCreate}, key)
	f.ok(err)
	equal(f, replayed, false)
	again, replayed, err := f.CreateVM(t.Context(), vmSpec("idem"), types.Task{ID: id(), Type: types.TaskVMCreate}, key)
	f.ok(err)
	equal(f, replayed, true)
	equal(f, again.ID, first.ID)
	_, _, err = f.CreateVM(t.Context(), vmSpec("other"), types.Task{ID: id(), Type: types.TaskVMCreate}, store.Idempotency{Key: "k", RequestHash: "other"})
	equal(f, f.kind(err, types.KindConflict).Field, "Idempotency-Key")
	f.ok(f.SweepIdempotency(t.Context(), time.Now().Add(time.Minute)))
	_, replayed, err = f.CreateVM(t.Context(), vmSpec("other"), types.Task{ID: id(), Type: types.TaskVMCreate}, store.Idempotency{Key: "k", RequestHash: "other"})
	f.ok(err)
	equal(f, replayed, false)
}

func idempotencyRace(t *testing.T, f fixture) {
	ids := make([]string, 12)
	together(len(ids), func(i int) {
		task, _, err := f.CreateVM(t.Context(), vmSpec("race"), types.Task{ID: id(), Type: types.TaskVMCreate}, store.Idempotency{Key: "race", RequestHash: "h"})
		if err != nil {
			t.Error(err)
		}
		ids[i] = task.ID
	})
	for _, v := range ids {
		equal(f, v, ids[0])
	}
}
