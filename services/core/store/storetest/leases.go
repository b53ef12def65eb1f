package storetest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

func leaseClaim(t *testing.T, f fixture) {
	w := f.worker(4096)
	vm, task := f.create("v")
	f.place(w)
	_, _, err := f.ClaimTask(t.Context(), task.ID, 2, w.ID, time.Minute)
	f.kind(err, types.KindConflict)
	_, _, err = f.ClaimTask(t.Context(), task.ID, 1, id(), time.Minute)
	f.kind(err, types.KindConflict)
	got, gotVM, err := f.ClaimTask(t.Context(), task.ID, 1, w.ID, time.Minute)
	f.ok(err)
	equal(f, got.State, types.TaskRunning)
	equal(f, got.StartedAt != nil, true)
	equal(f, gotVM.ID, vm.ID)
	_, _, err = f.ClaimTask(t.Context(), task.ID, 1, w.ID, time.Minute)
	f.kind(err, types.KindConflict)
	list, err := f.RunningTasks(t.Context(), w.ID)
	f.ok(err)
	equal(f, len(list), 1)

	// An end whose VM change is refused changes nothing.
	_, err = f.FinishTask(t.Context(), task.ID, 1, store.TaskEnd{State: types.TaskSucceeded, VM: &store.VMChange{ID: vm.ID, To: types.VMStopped}})
	f.kind(err, types.KindConflict)
	_, err = f.FinishTask(t.Context(), task.ID, 9, store.TaskEnd{State: types.TaskSucceeded, VM: &store.VMChange{ID: vm.ID, To: types.VMCreating}})
	f.kind(err, types.KindConflict)
	still, err := f.GetVM(t.Context(), vm.ID)
	f.ok(err)
	equal(f, still.State, types.VMPending)
	got, err = f.FinishTask(t.Context(), task.ID, 1, store.TaskEnd{State: types.TaskFailed, Reason: "r", Result: json.RawMessage(`{"a":1}`),
		Error: types.Errorf(types.KindTimeout, "slow").WithRemedy("wait")})
	f.ok(err)
	equal(f, got.Error.Remedy, "wait")
	equal(f, got.EndedAt != nil, true)
	_, err = f.FinishTask(t.Context(), task.ID, 1, store.TaskEnd{State: types.TaskSucceeded})
	f.kind(err, types.KindConflict)
}

func leaseExpiry(t *testing.T, f fixture) {
	w := f.worker(4096)
	_, task := f.create("v")
	for attempt := 1; attempt <= 3; attempt++ {
		f.place(w)
		claimed := f.claim(task.ID, w)
		equal(f, claimed.Attempt, attempt)
		none, err := f.ExpireLeases(t.Context(), time.Now())
		f.ok(err)
		equal(f, len(none), 0)
		expired, err := f.ExpireLeases(t.Context(), time.Now().Add(time.Hour))
		f.ok(err)
		equal(f, len(expired), 1)
		if attempt < 3 {
			equal(f, expired[0].State, types.TaskPending)
			continue
		}
		equal(f, expired[0].State, types.TaskFailed)
		equal(f, expired[0].Error.Kind, types.KindInterrupted)
	}
	_, err := f.FinishTask(t.Context(), task.ID, 3, store.TaskEnd{State: types.TaskSucceeded})
	f.kind(err, types.KindConflict)
}

func leaseRenewal(t *testing.T, f fixture) {
	w, other := f.worker(4096), f.worker(4096)
	_, task := f.create("v")
	f.place(w)
	f.claim(task.ID, w)
	r, err := f.RenewLeases(t.Context(), w.ID, []string{task.ID, "gone"}, time.Hour)
	f.ok(err)
	equal(f, len(r.Lost), 1)
	equal(f, r.Lost[0], "gone")
	expired, err := f.ExpireLeases(t.Context(), time.Now().Add(30*time.Minute))
	f.ok(err)
	equal(f, len(expired), 0)
	r, err = f.RenewLeases(t.Context(), other.ID, []string{task.ID}, time.Hour)
	f.ok(err)
	equal(f, len(r.Lost), 1)
}

func leaseRelease(t *testing.T, f fixture) {
	w := f.worker(4096)
	_, task := f.create("v")
	f.place(w)
	stale, err := f.StaleQueued(t.Context(), time.Now().Add(time.Minute), 10)
	f.ok(err)
	equal(f, len(stale), 1)
	fresh, err := f.StaleQueued(t.Context(), time.Now().Add(-time.Minute), 10)
	f.ok(err)
	equal(f, len(fresh), 0)
	f.kind(f.ReleaseTask(t.Context(), task.ID, 2, time.Time{}, "x"), types.KindConflict)
	f.ok(f.ReleaseTask(t.Context(), task.ID, 1, time.Time{}, "x"))
	_, _, err = f.ClaimTask(t.Context(), task.ID, 1, w.ID, time.Minute)
	f.kind(err, types.KindConflict)
	placed := f.place(w)
	equal(f, len(placed), 1)
	equal(f, placed[0].Attempt, 2)
}
