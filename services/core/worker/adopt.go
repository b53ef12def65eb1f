package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aetherium/aetherium/libs/agentapi"
	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
	"github.com/aetherium/aetherium/services/core/runtime"
	"github.com/aetherium/aetherium/services/core/store"
)

// adoptAtOnce is how many VMs are taken up side by side.
const adoptAtOnce = 8

// found is a VM as this host has it.
type found struct {
	runtime  runtime.Runtime
	instance runtime.Instance
}

// adopt makes the worker's memory, the store and the host agree: VMs that run as
// their records say are taken up, others end with a reason, what no record wants
// is swept, and tasks that this worker had claimed go on. It may be repeated.
func (w *Worker) adopt(ctx context.Context) error {
	vms, err := w.cfg.Store.VMsOfWorker(ctx, w.id)
	if err != nil {
		return err
	}
	tasks, err := w.cfg.Store.RunningTasks(ctx, w.id)
	if err != nil {
		return err
	}
	if tasks, err = w.keep(ctx, tasks); err != nil {
		return err
	}
	here, err := w.inventory(ctx)
	if err != nil {
		return err
	}
	busy := make(map[string]bool) // VMs whose lifecycle task goes on: it converges them
	for _, t := range tasks {
		if t.VMID != "" && w.handlers[t.Type].lifecycle {
			busy[t.VMID] = true
		}
	}
	var g errgroup.Group
	g.SetLimit(adoptAtOnce)
	for _, vm := range vms {
		f, ok := here[vm.ID]
		delete(here, vm.ID)
		g.Go(func() error { return w.adoptVM(ctx, vm, f, ok, busy[vm.ID]) })
	}
	for id, f := range here {
		g.Go(func() error { return w.sweep(ctx, id, f, "no record wants it") })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	byID := make(map[string]types.VM, len(vms))
	for _, vm := range vms {
		byID[vm.ID] = vm
	}
	for _, t := range tasks {
		w.adoptTask(t, byID)
	}
	return nil
}

// keep renews the leases of tasks before they can run out, and answers those
// that are still this worker's.
func (w *Worker) keep(ctx context.Context, tasks []types.Task) ([]types.Task, error) {
	if len(tasks) == 0 {
		return nil, nil
	}
	ids := make([]string, len(tasks))
	for i, t := range tasks {
		ids[i] = t.ID
	}
	r, err := w.cfg.Store.RenewLeases(ctx, w.id, ids, w.cfg.Lease)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(tasks, func(t types.Task) bool { return slices.Contains(r.Lost, t.ID) }), nil
}

// inventory lists every VM that has anything on this host. A runtime that cannot
// list has its VMs neither taken up nor swept.
func (w *Worker) inventory(ctx context.Context) (map[string]found, error) {
	here := make(map[string]found)
	for _, rt := range w.cfg.Runtimes {
		instances, err := rt.List(ctx)
		if types.KindOf(err) == types.KindUnsupported {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list VMs of runtime %s: %w", rt.Name(), err)
		}
		for _, inst := range instances {
			here[inst.ID] = found{rt, inst}
		}
	}
	return here, nil
}

// adoptVM makes one VM of the record and what the host has of it agree.
func (w *Worker) adoptVM(ctx context.Context, vm types.VM, f found, exists, busy bool) error {
	if !exists {
		if busy {
			return nil
		}
		return w.missing(ctx, vm)
	}
	switch vm.State {
	case types.VMRunning, types.VMPaused, types.VMStopped:
		m := w.hold(vm.ID, f.runtime)
		if f.instance.State == runtime.StateRunning || f.instance.State == runtime.StatePaused {
			w.watch(m)
		}
		if busy {
			return nil
		}
		return w.align(ctx, vm, m, f.instance)
	case types.VMFailed:
		w.hold(vm.ID, f.runtime)
		return nil
	case types.VMDeleted, types.VMLost:
		return w.sweep(ctx, vm.ID, f, "its record says "+string(vm.State))
	}
	if busy {
		w.hold(vm.ID, f.runtime)
		return nil
	}
	return w.sweep(ctx, vm.ID, f, "it was left half made")
}

// missing ends the record of a VM that this host does not have.
func (w *Worker) missing(ctx context.Context, vm types.VM) error {
	switch vm.State {
	case types.VMRunning, types.VMPaused, types.VMStopped:
		return w.fail(ctx, vm, "was gone from its host when its worker came back")
	}
	return nil
}

// align brings a VM that the host has to the state that its record says.
func (w *Worker) align(ctx context.Context, vm types.VM, m *machine, inst runtime.Instance) error {
	switch {
	case inst.State == runtime.StateBroken:
		return w.fail(ctx, vm, "was found broken when its worker came back")
	case vm.State == types.VMStopped && inst.State != runtime.StateStopped:
		m.expectEnd("the VM was stopped")
		return m.runtime.Stop(ctx, vm.ID)
	case vm.State == types.VMStopped:
		return nil
	case inst.State == runtime.StateStopped:
		return w.fail(ctx, vm, "did not run any more when its worker came back")
	case vm.State == types.VMPaused && inst.State == runtime.StateRunning:
		return m.runtime.Pause(ctx, vm.ID)
	case vm.State == types.VMRunning && inst.State == runtime.StatePaused:
		if err := m.runtime.Resume(ctx, vm.ID); err != nil {
			return err
		}
	}
	if vm.State == types.VMRunning {
		return w.meet(ctx, vm, m)
	}
	return nil
}

// meet takes up a running VM's agent.
func (w *Worker) meet(ctx context.Context, vm types.VM, m *machine) error {
	limit, cancel := context.WithTimeout(ctx, w.cfg.ReadyTimeout)
	defer cancel()
	if _, err := m.guest.WaitReady(limit, guest.Hello{Hostname: vm.Name}); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return w.fail(ctx, vm, fmt.Sprintf("its agent does not answer since its worker came back: %v", err))
	}
	w.log.Info("VM is taken up again", "vm", vm.ID, "name", vm.Name)
	w.background.Go(func() { w.tidy(m) })
	return nil
}

func (w *Worker) fail(ctx context.Context, vm types.VM, reason string) error {
	w.log.Warn("VM failed", "vm", vm.ID, "reason", reason)
	_, err := w.cfg.Store.ChangeVM(ctx, store.VMChange{
		ID: vm.ID, From: []types.VMState{vm.State}, To: types.VMFailed, Reason: reason, ReasonKind: types.KindInterrupted,
	})
	if types.KindOf(err) == types.KindConflict {
		return nil // somebody was faster
	}
	return err
}

// sweep frees what no record wants. What resists is no reason not to start.
func (w *Worker) sweep(ctx context.Context, id string, f found, why string) error {
	w.log.Info("VM is swept away", "vm", id, "runtime", f.runtime.Name(), "reason", why)
	if m, err := w.lookup(id); err == nil {
		m.expectEnd("the VM was given up")
		defer w.drop(m)
	}
	if err := f.runtime.Delete(ctx, id); err != nil {
		w.log.Warn("VM could not be swept away; the next start will try again", "vm", id, "error", err)
	}
	return nil
}

// adoptTask goes on with a task that an earlier process of this worker claimed.
func (w *Worker) adoptTask(t types.Task, vms map[string]types.VM) {
	j := &Job{Task: t, Resumed: true}
	if vm, ok := vms[t.VMID]; ok {
		j.VM = &vm
	} else if t.VMID != "" {
		return // its VM is not ours any more: the lease runs out
	}
	w.mu.Lock()
	running := w.jobs[t.ID] != nil
	w.mu.Unlock()
	if running {
		return
	}
	w.log.Info("task is taken up again", "task", t.ID, "type", t.Type, "attempt", t.Attempt)
	w.background.Go(func() {
		select {
		case w.slots <- struct{}{}:
			w.begin(j)
		case <-w.life.Done():
		}
	})
}

// tidy ends and forgets the execs of a VM whose tasks are over: the lingering
// ones of an earlier process, and those that were given up while it was away.
func (w *Worker) tidy(m *machine) {
	if !pause(w.life, w.cfg.Linger) {
		return
	}
	ctx, cancel := context.WithTimeout(w.life, time.Minute)
	defer cancel()
	execs, err := m.guest.List(ctx)
	for _, st := range execs {
		err = errors.Join(err, w.tidyExec(ctx, m, st))
	}
	if err != nil && w.life.Err() == nil {
		w.log.Debug("could not tidy up a VM's execs", "vm", m.id, "error", err)
	}
}

func (w *Worker) tidyExec(ctx context.Context, m *machine, st *agentapi.ExecStatus) error {
	t, err := w.cfg.Store.GetTask(ctx, st.GetExecId())
	if err != nil && types.KindOf(err) != types.KindNotFound {
		return err
	}
	if err == nil && !t.State.Ended() {
		return nil
	}
	if st.GetState() == agentapi.ExecState_EXEC_STATE_RUNNING {
		return m.guest.Signal(ctx, st.GetExecId(), syscall.SIGKILL, false)
	}
	return m.guest.Forget(ctx, st.GetExecId())
}
