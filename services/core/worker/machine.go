package worker

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
	"github.com/aetherium/aetherium/services/core/runtime"
	"github.com/aetherium/aetherium/services/core/store"
)

// machine is what the worker holds in memory of a VM on this host. All of it can
// be made anew from the record and the runtime.
type machine struct {
	id      string
	runtime runtime.Runtime
	guest   *guest.Client
	turn    chan struct{} // holds one: lifecycle work on a VM takes turns

	mu    sync.Mutex
	boot  *boot         // nil while the sandbox does not run
	execs int           // execs that are followed
	idle  chan struct{} // closed when the last of them ended
}

// boot is one run of a VM's sandbox, from start to end.
type boot struct {
	gone   chan struct{} // closed when the sandbox is not running any more
	exit   runtime.Exit  // valid once gone is closed
	wanted string        // why its end is expected; guarded by machine.mu
}

func newMachine(id string, rt runtime.Runtime) *machine {
	return &machine{
		id: id, runtime: rt, turn: make(chan struct{}, 1),
		guest: guest.New(func(ctx context.Context) (net.Conn, error) { return rt.Dial(ctx, id) }),
	}
}

// lock takes the machine's turn.
func (m *machine) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case m.turn <- struct{}{}:
		return func() { <-m.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// current answers the run of the sandbox that goes on now, nil if none.
func (m *machine) current() *boot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boot
}

// expectEnd notes why the sandbox is about to end, so that its end is no fault.
func (m *machine) expectEnd(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot != nil {
		m.boot.wanted = why
	}
}

// unexpectEnd takes that back: the sandbox goes on.
func (m *machine) unexpectEnd() { m.expectEnd("") }

// follow counts an exec that is followed, until done is called.
func (m *machine) follow() (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.execs++; m.execs == 1 {
		m.idle = make(chan struct{})
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.execs--; m.execs == 0 {
			close(m.idle)
		}
	}
}

// unfollowed is closed once no exec is followed.
func (m *machine) unfollowed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.execs > 0 {
		return m.idle
	}
	none := make(chan struct{})
	close(none)
	return none
}

// lookup answers a VM's machine, if this worker has it.
func (w *Worker) lookup(id string) (*machine, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.machines[id]; m != nil {
		return m, nil
	}
	return nil, types.Errorf(types.KindNotFound, "VM %s is not on this worker", id)
}

// machineFor answers a VM's machine, and makes it where there is none yet.
func (w *Worker) machineFor(vm types.VM) (*machine, error) {
	if m, err := w.lookup(vm.ID); err == nil {
		return m, nil
	}
	rt, err := w.runtimeFor(vm)
	if err != nil {
		return nil, err
	}
	return w.hold(vm.ID, rt), nil
}

func (w *Worker) hold(id string, rt runtime.Runtime) *machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.machines[id]; m != nil {
		return m
	}
	m := newMachine(id, rt)
	w.machines[id] = m
	return m
}

// drop forgets a machine that is deleted.
func (w *Worker) drop(m *machine) {
	w.mu.Lock()
	if w.machines[m.id] == m {
		delete(w.machines, m.id)
	}
	w.mu.Unlock()
	m.guest.Close()
}

// runtimeFor is the runtime that a VM asks for, or the first proven one.
func (w *Worker) runtimeFor(vm types.VM) (runtime.Runtime, error) {
	statuses := w.statuses()
	for i, rt := range w.cfg.Runtimes {
		if vm.Runtime == rt.Name() || vm.Runtime == "" && statuses[i].Proven {
			return rt, nil
		}
	}
	return nil, types.Errorf(types.KindUnsupported, "worker %s has no runtime %q", w.id, vm.Runtime)
}

// watch follows a sandbox that runs until it ends.
func (w *Worker) watch(m *machine) {
	b := &boot{gone: make(chan struct{})}
	m.mu.Lock()
	if m.boot != nil { // watched already
		m.mu.Unlock()
		return
	}
	m.boot = b
	m.mu.Unlock()
	w.background.Go(func() {
		exit, ok := w.await(m)
		if !ok {
			return
		}
		m.mu.Lock()
		b.exit, m.boot = exit, nil
		wanted := b.wanted
		m.mu.Unlock()
		close(b.gone)
		if wanted == "" {
			w.fell(m, exit)
		}
	})
}

// await waits for the end of a sandbox, and reports false if the worker's own
// came first. A runtime that cannot tell is asked again.
func (w *Worker) await(m *machine) (runtime.Exit, bool) {
	for {
		exit, err := m.runtime.Wait(w.life, m.id)
		switch {
		case w.life.Err() != nil:
			return exit, false
		case err == nil:
			return exit, true
		case types.KindOf(err) == types.KindNotFound:
			return runtime.Exit{Kind: types.KindInternal, Reason: "the VM vanished from its host", At: time.Now().UTC()}, true
		}
		w.log.Warn("cannot watch VM; will try again", "vm", m.id, "error", err)
		if !pause(w.life, time.Second) {
			return exit, false
		}
	}
}

// fell records the end of a VM that nobody asked for. Its disk stays until it is
// deleted. It takes the machine's turn, so that it comes after the record of
// whatever lifecycle work was under way.
func (w *Worker) fell(m *machine, exit runtime.Exit) {
	unlock, err := m.lock(w.life)
	if err != nil {
		return
	}
	defer unlock()
	if m.current() != nil {
		return // started again meanwhile
	}
	kind := exit.Kind
	if kind == "" {
		kind = types.KindInternal
	}
	reason := exit.Reason
	if reason == "" {
		reason = "its sandbox ended unexpectedly"
	}
	w.log.Warn("VM ended unexpectedly", "vm", m.id, "kind", kind, "reason", reason)
	if err := m.runtime.Stop(w.life, m.id); err != nil && w.life.Err() == nil {
		w.log.Warn("could not clear what a VM left behind; its delete will", "vm", m.id, "error", err)
	}
	err = w.insist(w.life, "record a VM's end", func(ctx context.Context) error {
		_, err := w.cfg.Store.ChangeVM(ctx, store.VMChange{
			ID: m.id, From: []types.VMState{types.VMRunning, types.VMPaused}, To: types.VMFailed, Reason: reason, ReasonKind: kind,
		})
		return err
	})
	if err != nil && types.KindOf(err) != types.KindConflict && w.life.Err() == nil {
		w.log.Warn("VM's end was not recorded", "vm", m.id, "error", err)
	}
}

// Guest answers the client of a running VM's agent, for the direct face.
func (w *Worker) Guest(vmID string) (*guest.Client, error) {
	m, err := w.lookup(vmID)
	if err != nil {
		return nil, err
	}
	if m.current() == nil {
		return nil, types.Errorf(types.KindConflict, "VM %s is not running", vmID).WithRemedy("start the VM")
	}
	return m.guest, nil
}

// Stats measures a VM from outside, for the direct face.
func (w *Worker) Stats(ctx context.Context, vmID string) (runtime.Stats, error) {
	m, err := w.lookup(vmID)
	if err != nil {
		return runtime.Stats{}, err
	}
	return m.runtime.Stats(ctx, vmID)
}
