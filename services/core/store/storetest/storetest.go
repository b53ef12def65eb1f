// Package storetest is the store's behaviour, as a suite that is run unchanged on
// every database.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

// Run runs the suite. open answers a store on a new database that is migrated
// and is closed when the test ends.
func Run(t *testing.T, open func(testing.TB) *store.Store) {
	for name, test := range map[string]func(*testing.T, fixture){
		"vms/create":           vmCreate,
		"vms/name":             vmName,
		"vms/list":             vmList,
		"vms/transitions":      vmTransitions,
		"vms/endings":          vmEndings,
		"tasks/admission":      taskAdmission,
		"tasks/cancel":         taskCancel,
		"tasks/list":           taskList,
		"tasks/idempotency":    taskIdempotency,
		"tasks/idempotentRace": idempotencyRace,
		"placement/order":      placementOrder,
		"placement/reserve":    placementReserve,
		"placement/race":       placementRace,
		"placement/decisions":  placementDecisions,
		"leases/claim":         leaseClaim,
		"leases/expiry":        leaseExpiry,
		"leases/renewal":       leaseRenewal,
		"leases/release":       leaseRelease,
		"output":               output,
		"events/order":         eventsOrder,
		"events/concurrent":    eventsConcurrent,
		"workers/lifecycle":    workerLifecycle,
		"workers/lost":         workerLost,
		"workers/images":       workerImages,
		"migrations":           migrations,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fixture{T: t, Store: open(t)})
		})
	}
}

// fixture is one test's store and the short ways to fill it.
type fixture struct {
	*testing.T
	*store.Store
}

func id() string { return uuid.Must(uuid.NewV7()).String() }

func (f fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f fixture) kind(err error, want types.Kind) *types.Error {
	f.Helper()
	e, ok := errors.AsType[*types.Error](err)
	if !ok || e.Kind != want {
		f.Fatalf("got error %v, want kind %s", err, want)
	}
	return e
}

func equal[T comparable](f fixture, got, want T) {
	f.Helper()
	if got != want {
		f.Fatalf("got %v, want %v", got, want)
	}
}

func vmSpec(name string) types.VM {
	return types.VM{ID: id(), VMSpec: types.VMSpec{
		Name: name, Image: "host", VCPUs: 1, MemoryMiB: 256, DiskMiB: 1024, Network: types.NetworkNAT,
		Labels: map[string]string{"team": "a", `odd."key`: "x"}, Env: map[string]string{"A": "1"},
	}}
}

// create accepts a VM.
func (f fixture) create(name string) (types.VM, types.Task) {
	f.Helper()
	vm := vmSpec(name)
	task, _, err := f.CreateVM(context.Background(), vm, types.Task{ID: id(), Type: types.TaskVMCreate}, store.Idempotency{})
	f.ok(err)
	vm, err = f.GetVM(context.Background(), vm.ID)
	f.ok(err)
	return vm, task
}

func (f fixture) worker(memory int) types.Worker {
	f.Helper()
	w := types.Worker{
		ID: id(), Hostname: "host", State: types.WorkerReady, Address: "unix:///x", Labels: map[string]string{"zone": "1"},
		Runtimes: []types.RuntimeStatus{{Name: "gvisor", Proven: true, Capabilities: []string{"pause"}}},
		Capacity: types.Capacity{VCPUs: 64, MemoryMiB: memory, DiskMiB: 1 << 20}, Version: "test", StartedAt: time.Now(),
	}
	f.ok(f.RegisterWorker(context.Background(), w))
	return w
}

// place sends everything to one worker.
func (f fixture) place(w types.Worker) []types.Task {
	f.Helper()
	placed, err := f.PlacePending(context.Background(), 100, func(store.Candidate) store.Decision { return store.Decision{WorkerID: w.ID} })
	f.ok(err)
	return placed
}

// running makes a VM that runs on a worker.
func (f fixture) running(name string, w types.Worker) types.VM {
	f.Helper()
	vm, task := f.create(name)
	f.place(w)
	f.claim(task.ID, w)
	_, err := f.ChangeVM(context.Background(), store.VMChange{ID: vm.ID, To: types.VMCreating})
	f.ok(err)
	ip, digest := "10.0.0.2", "sha256:1"
	_, err = f.FinishTask(context.Background(), task.ID, 1, store.TaskEnd{State: types.TaskSucceeded, VM: &store.VMChange{
		ID: vm.ID, From: []types.VMState{types.VMCreating}, To: types.VMRunning, IP: &ip, ImageDigest: &digest}})
	f.ok(err)
	vm, err = f.GetVM(context.Background(), vm.ID)
	f.ok(err)
	return vm
}

func (f fixture) claim(taskID string, w types.Worker) types.Task {
	f.Helper()
	t, err := f.GetTask(context.Background(), taskID)
	f.ok(err)
	t, _, err = f.ClaimTask(context.Background(), t.ID, t.Attempt, w.ID, time.Minute)
	f.ok(err)
	return t
}

// submit accepts a task of a VM.
func (f fixture) submit(vm types.VM, typ types.TaskType) types.Task {
	f.Helper()
	t, _, err := f.CreateTask(context.Background(), types.Task{ID: id(), Type: typ, VMID: vm.ID, Payload: json.RawMessage(`{"command":"true"}`)}, store.Idempotency{})
	f.ok(err)
	return t
}

// together runs fn n times at once.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}
