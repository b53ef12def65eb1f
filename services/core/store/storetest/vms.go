package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

func vmCreate(t *testing.T, f fixture) {
	before := time.Now().Add(-time.Second)
	vm, task := f.create("one")
	equal(f, vm.State, types.VMPending)
	equal(f, vm.Labels[`odd."key`], "x")
	equal(f, vm.Env["A"], "1")
	equal(f, vm.Version, 1)
	equal(f, task.State, types.TaskPending)
	equal(f, task.VMID, vm.ID)
	equal(f, task.Priority, types.PriorityDefault)
	if vm.CreatedAt.Before(before) || vm.CreatedAt.Location() != time.UTC {
		t.Fatalf("created_at is %v", vm.CreatedAt)
	}
	byName, err := f.GetVM(t.Context(), "one")
	f.ok(err)
	equal(f, byName.ID, vm.ID)
	_, err = f.GetVM(t.Context(), "none")
	f.kind(err, types.KindNotFound)
}

func vmName(t *testing.T, f fixture) {
	vm, create := f.create("taken")
	_, _, err := f.CreateVM(t.Context(), vmSpec("taken"), types.Task{ID: id(), Type: types.TaskVMCreate}, store.Idempotency{})
	equal(f, f.kind(err, types.KindConflict).Field, "name")
	tasks, _, err := f.ListTasks(t.Context(), store.TaskFilter{})
	f.ok(err)
	equal(f, len(tasks), 1) // the refused one left nothing
	_, err = f.CancelTask(t.Context(), create.ID)
	f.ok(err)
	again, _ := f.create("taken")
	now, err := f.GetVM(t.Context(), "taken")
	f.ok(err)
	equal(f, now.ID, again.ID)
	old, err := f.GetVM(t.Context(), vm.ID)
	f.ok(err)
	equal(f, old.State, types.VMDeleted)
}

func vmList(t *testing.T, f fixture) {
	var want []string
	for i := range 7 {
		vm, _ := f.create(fmt.Sprintf("list-%d_%%", i))
		want = append(want, vm.ID)
	}
	slices.Reverse(want)
	var got []string
	for cursor := ""; ; {
		page, next, err := f.ListVMs(t.Context(), store.VMFilter{Limit: 3, Cursor: cursor})
		f.ok(err)
		for _, v := range page {
			got = append(got, v.ID)
		}
		if cursor = next; next == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("pages gave %v, want %v", got, want)
	}
	for filter, n := range map[*store.VMFilter]int{
		{Labels: map[string]string{"team": "a", `odd."key`: "x"}}:   7,
		{Labels: map[string]string{"team": "b"}}:                    0,
		{Name: "list-3_%"}:                                          1,
		{Name: "%list"}:                                             0,
		{States: []types.VMState{types.VMRunning}}:                  0,
		{States: []types.VMState{types.VMRunning, types.VMPending}}: 7,
		{WorkerID: "w"}:                                             0,
	} {
		list, _, err := f.ListVMs(t.Context(), *filter)
		f.ok(err)
		if len(list) != n {
			t.Errorf("%+v: %d VMs, want %d", *filter, len(list), n)
		}
	}
	_, _, err := f.ListVMs(t.Context(), store.VMFilter{Cursor: "!"})
	equal(f, f.kind(err, types.KindInvalid).Field, "cursor")
}

func vmTransitions(t *testing.T, f fixture) {
	vm := f.running("v", f.worker(4096))
	equal(f, vm.IP, "10.0.0.2")
	equal(f, vm.StartedAt != nil, true)
	version := vm.Version
	_, err := f.ChangeVM(t.Context(), store.VMChange{ID: vm.ID, To: types.VMCreating})
	f.kind(err, types.KindConflict)
	_, err = f.ChangeVM(t.Context(), store.VMChange{ID: vm.ID, From: []types.VMState{types.VMPaused}, To: types.VMStopped})
	f.kind(err, types.KindConflict)
	vm, err = f.ChangeVM(t.Context(), store.VMChange{ID: vm.ID, To: types.VMStopped, Reason: "why"})
	f.ok(err)
	equal(f, vm.Reason, "why")
	equal(f, vm.Version, version+1)
	_, err = f.ChangeVM(t.Context(), store.VMChange{ID: id(), To: types.VMStopped})
	f.kind(err, types.KindNotFound)
}

func vmEndings(t *testing.T, f fixture) {
	w := f.worker(1 << 20)
	for to, want := range map[types.VMState]types.TaskState{
		types.VMFailed: types.TaskFailed, types.VMLost: types.TaskFailed, types.VMDeleting: types.TaskCanceled,
	} {
		vm := f.running("end-"+string(to), w)
		waiting, runs := f.submit(vm, types.TaskVMExecute), f.submit(vm, types.TaskVMExecute)
		f.place(w)
		f.claim(runs.ID, w)
		remove := f.submit(vm, types.TaskVMDelete)
		_, err := f.ChangeVM(t.Context(), store.VMChange{ID: vm.ID, To: to, Reason: "the end"})
		f.ok(err)
		got, err := f.GetTask(t.Context(), waiting.ID)
		f.ok(err)
		equal(f, got.State, want)
		equal(f, got.Error != nil && got.EndedAt != nil && got.Reason != "", true)
		got, err = f.GetTask(t.Context(), runs.ID)
		f.ok(err)
		equal(f, got.State, types.TaskRunning)
		equal(f, got.CancelRequested, to == types.VMDeleting)
		got, err = f.GetTask(t.Context(), remove.ID)
		f.ok(err)
		equal(f, got.State, types.TaskPending)
	}
}
