package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
	"github.com/aetherium/aetherium/services/core/image"
	"github.com/aetherium/aetherium/services/core/runtime"
	"github.com/aetherium/aetherium/services/core/store"
)

// cleanupLimit bounds the freeing of what a failed create left.
const cleanupLimit = time.Minute

// createVM makes the VM of a vm:create task: image, sandbox, agent. What fails
// leaves nothing behind.
func (w *Worker) createVM(ctx context.Context, j *Job) (store.TaskEnd, error) {
	vm := *j.VM
	if vm.State == types.VMRunning {
		return store.TaskEnd{Reason: "the VM is running"}, nil
	}
	m, err := w.machineFor(vm)
	if err != nil {
		return w.createFailed(ctx, vm, err)
	}
	if err := j.takeTurn(m); err != nil {
		return store.TaskEnd{}, err
	}
	if vm.State == types.VMPending {
		if _, err := w.cfg.Store.ChangeVM(ctx, store.VMChange{ID: vm.ID, From: []types.VMState{types.VMPending}, To: types.VMCreating}); err != nil {
			return store.TaskEnd{}, err
		}
	}
	img, inst, err := w.make(ctx, vm, m)
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
		defer cancel()
		m.expectEnd("its create failed")
		if cleanErr := m.runtime.Delete(clean, vm.ID); cleanErr != nil {
			w.log.Warn("could not free what a failed create left; the next start of the worker will", "vm", vm.ID, "error", cleanErr)
		}
		w.drop(m)
		return w.createFailed(ctx, vm, err)
	}
	w.watch(m)
	return store.TaskEnd{VM: &store.VMChange{
		ID: vm.ID, From: []types.VMState{types.VMCreating}, To: types.VMRunning,
		ImageDigest: &img.Digest, IP: &inst.IP,
	}}, nil
}

func (w *Worker) make(ctx context.Context, vm types.VM, m *machine) (*image.Image, runtime.Instance, error) {
	img, err := w.cfg.Images.Ensure(ctx, vm.Image, nil)
	if err != nil {
		return nil, runtime.Instance{}, fmt.Errorf("image %s: %w", vm.Image, err)
	}
	inst, err := m.runtime.Create(ctx, runtime.Spec{
		ID: vm.ID, Hostname: vm.Name, Image: img,
		VCPUs: vm.VCPUs, MemoryMiB: vm.MemoryMiB, DiskMiB: vm.DiskMiB, Network: vm.Network,
	})
	if err != nil {
		return nil, inst, err
	}
	return img, inst, w.greet(ctx, vm, m, img)
}

// greet waits until the guest's agent answers, and tells it who it is.
func (w *Worker) greet(ctx context.Context, vm types.VM, m *machine, img *image.Image) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.ReadyTimeout)
	defer cancel()
	hello := helloOf(vm, img)
	if _, err := m.guest.WaitReady(ctx, hello); err != nil {
		return fmt.Errorf("the guest's agent does not answer: %w", err)
	}
	return nil
}

// processLimit is how many processes a guest may have before its agent ends the
// command that has the most.
const processLimit = 4096

// helloOf is what a VM's agent is told. The memory limit is below the runtime's
// own, so that a command dies of it and not the VM.
func helloOf(vm types.VM, img *image.Image) guest.Hello {
	h := guest.Hello{Hostname: vm.Name, Env: environment(img, vm.Env), MemoryLimitBytes: int64(vm.MemoryMiB) << 20, ProcessLimit: processLimit}
	if img != nil {
		h.Cwd = img.Config.Cwd
	}
	return h
}

// environment is the image's, with the VM's own over it.
func environment(img *image.Image, own map[string]string) map[string]string {
	env := make(map[string]string)
	if img != nil {
		for _, kv := range img.Config.Env {
			for i := range kv {
				if kv[i] == '=' {
					env[kv[:i]] = kv[i+1:]
					break
				}
			}
		}
	}
	maps.Copy(env, own)
	return env
}

// createFailed is the end of a create that did not succeed: failed with the
// reason, or, where somebody wanted it to end, deleted.
func (w *Worker) createFailed(ctx context.Context, vm types.VM, err error) (store.TaskEnd, error) {
	cause := context.Cause(ctx)
	if errors.Is(cause, errCanceled) {
		to := store.VMChange{ID: vm.ID, To: types.VMDeleting, Reason: "its create was canceled"}
		ctx := context.WithoutCancel(ctx)
		if _, err := w.cfg.Store.ChangeVM(ctx, to); err != nil && types.KindOf(err) != types.KindConflict {
			return store.TaskEnd{}, err
		}
		to.To = types.VMDeleted
		return store.TaskEnd{VM: &to}, err
	}
	if errors.Is(cause, errSuperseded) {
		return store.TaskEnd{}, err
	}
	e := types.AsError(err)
	return store.TaskEnd{VM: &store.VMChange{ID: vm.ID, To: types.VMFailed, Reason: e.Message, ReasonKind: e.Kind}}, err
}

// startVM boots a stopped VM.
func (w *Worker) startVM(ctx context.Context, j *Job) (store.TaskEnd, error) {
	return w.onMachine(ctx, j, func(m *machine, vm types.VM) (store.TaskEnd, error) {
		if vm.State == types.VMRunning {
			return store.TaskEnd{Reason: "the VM was running already"}, nil
		}
		inst, err := m.runtime.Start(ctx, vm.ID)
		if err != nil {
			return store.TaskEnd{}, err
		}
		img, err := w.cfg.Images.Ensure(ctx, vm.Image, nil)
		if err != nil {
			w.log.Warn("image is not there any more; the VM starts without its environment", "vm", vm.ID, "error", err)
		}
		if err := w.greet(ctx, vm, m, img); err != nil {
			if stopErr := m.runtime.Stop(context.WithoutCancel(ctx), vm.ID); stopErr != nil {
				w.log.Warn("could not stop a VM whose start failed", "vm", vm.ID, "error", stopErr)
			}
			return store.TaskEnd{}, err
		}
		w.watch(m)
		return store.TaskEnd{VM: &store.VMChange{ID: vm.ID, From: []types.VMState{types.VMStopped}, To: types.VMRunning, IP: &inst.IP}}, nil
	})
}

// stopVM shuts a VM down: its processes first, so that they can end well and
// their output is kept, then its sandbox.
func (w *Worker) stopVM(ctx context.Context, j *Job) (store.TaskEnd, error) {
	return w.onMachine(ctx, j, func(m *machine, vm types.VM) (store.TaskEnd, error) {
		if vm.State == types.VMStopped {
			return store.TaskEnd{Reason: "the VM was stopped already"}, nil
		}
		m.expectEnd("the VM was stopped")
		w.quiet(ctx, m, vm)
		if err := m.runtime.Stop(ctx, vm.ID); err != nil {
			m.unexpectEnd()
			return store.TaskEnd{}, err
		}
		return store.TaskEnd{VM: &store.VMChange{
			ID: vm.ID, From: []types.VMState{types.VMRunning, types.VMPaused}, To: types.VMStopped, Reason: "stopped on request",
		}}, nil
	})
}

// quiet ends a VM's processes in good order, as far as they let it. A guest that
// does not play along is stopped all the same.
func (w *Worker) quiet(ctx context.Context, m *machine, vm types.VM) {
	b := m.current()
	if b == nil {
		return
	}
	if vm.State == types.VMPaused {
		if err := m.runtime.Resume(ctx, vm.ID); err != nil {
			w.log.Debug("paused VM does not resume to shut down", "vm", vm.ID, "error", err)
			return
		}
	}
	limit, cancel := context.WithTimeout(ctx, w.cfg.StopGrace+5*time.Second)
	defer cancel()
	if err := m.guest.Shutdown(limit, w.cfg.StopGrace, false); err != nil {
		w.log.Debug("guest does not shut down by itself", "vm", vm.ID, "error", err)
		return
	}
	// The execs that ended just now still have their last output to fetch.
	select {
	case <-m.unfollowed():
	case <-b.gone:
	case <-limit.Done():
	case <-time.After(2 * time.Second):
	}
}

func (w *Worker) pauseVM(ctx context.Context, j *Job) (store.TaskEnd, error) {
	return w.onMachine(ctx, j, func(m *machine, vm types.VM) (store.TaskEnd, error) {
		if err := m.runtime.Pause(ctx, vm.ID); err != nil {
			return store.TaskEnd{}, err
		}
		if vm.State == types.VMPaused {
			return store.TaskEnd{Reason: "the VM was paused already"}, nil
		}
		return store.TaskEnd{VM: &store.VMChange{ID: vm.ID, From: []types.VMState{types.VMRunning}, To: types.VMPaused, Reason: "paused on request"}}, nil
	})
}

func (w *Worker) resumeVM(ctx context.Context, j *Job) (store.TaskEnd, error) {
	return w.onMachine(ctx, j, func(m *machine, vm types.VM) (store.TaskEnd, error) {
		if err := m.runtime.Resume(ctx, vm.ID); err != nil {
			return store.TaskEnd{}, err
		}
		if vm.State == types.VMRunning {
			return store.TaskEnd{Reason: "the VM was running already"}, nil
		}
		return store.TaskEnd{VM: &store.VMChange{ID: vm.ID, From: []types.VMState{types.VMPaused}, To: types.VMRunning}}, nil
	})
}

// deleteVM frees all of a VM, whatever state it is in.
func (w *Worker) deleteVM(ctx context.Context, j *Job) (store.TaskEnd, error) {
	for _, create := range w.jobsOf(j.Task.VMID, types.TaskVMCreate) {
		create.cancel(errSuperseded)
	}
	vm, err := w.cfg.Store.GetVM(ctx, j.Task.VMID)
	if err != nil {
		return store.TaskEnd{}, err
	}
	if vm.State == types.VMDeleted {
		return store.TaskEnd{Reason: "the VM was deleted already"}, nil
	}
	if vm.State != types.VMDeleting {
		if _, err := w.cfg.Store.ChangeVM(ctx, store.VMChange{ID: vm.ID, To: types.VMDeleting, Reason: "is being deleted on request"}); err != nil {
			return store.TaskEnd{}, err
		}
	}
	end := store.TaskEnd{VM: &store.VMChange{ID: vm.ID, From: []types.VMState{types.VMDeleting}, To: types.VMDeleted, Reason: "deleted on request"}}
	m, err := w.machineFor(vm)
	if types.KindOf(err) == types.KindUnsupported {
		return end, w.deleteEverywhere(ctx, vm.ID)
	}
	if err != nil {
		return store.TaskEnd{}, err
	}
	if err := j.takeTurn(m); err != nil {
		return store.TaskEnd{}, err
	}
	m.expectEnd("the VM was deleted")
	if err := m.runtime.Delete(ctx, vm.ID); err != nil {
		return store.TaskEnd{}, err
	}
	w.drop(m)
	return end, nil
}

// deleteEverywhere frees a VM whose runtime cannot be told.
func (w *Worker) deleteEverywhere(ctx context.Context, id string) error {
	for _, rt := range w.cfg.Runtimes {
		if err := rt.Delete(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// onMachine does lifecycle work in the machine's turn, on the VM's record as it
// is by then.
func (w *Worker) onMachine(ctx context.Context, j *Job, do func(*machine, types.VM) (store.TaskEnd, error)) (store.TaskEnd, error) {
	m, err := w.lookup(j.Task.VMID)
	if err != nil {
		return store.TaskEnd{}, err
	}
	if err := j.takeTurn(m); err != nil {
		return store.TaskEnd{}, err
	}
	vm, err := w.cfg.Store.GetVM(ctx, j.Task.VMID)
	if err != nil {
		return store.TaskEnd{}, err
	}
	if err := types.Admit(vm, j.Task.Type); err != nil {
		return store.TaskEnd{}, err
	}
	return do(m, vm)
}

// pullImage fetches an image to this worker.
func (w *Worker) pullImage(ctx context.Context, j *Job) (store.TaskEnd, error) {
	ask, err := payload[types.ImagePull](j.Task)
	if err != nil {
		return store.TaskEnd{}, err
	}
	img, err := w.cfg.Images.Ensure(ctx, ask.Ref, nil)
	if err != nil {
		return store.TaskEnd{}, fmt.Errorf("image %s: %w", ask.Ref, err)
	}
	return store.TaskEnd{Reason: "has " + img.Digest}, w.recordImage(ctx, img)
}

func (w *Worker) recordImage(ctx context.Context, img *image.Image) error {
	return w.cfg.Store.PutWorkerImage(ctx, types.WorkerImage{
		WorkerID: w.id, Digest: img.Digest, Ref: img.Ref, SizeBytes: img.SizeBytes, Layers: len(img.Layers), PulledAt: time.Now().UTC(),
	})
}
