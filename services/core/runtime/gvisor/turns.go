package gvisor

import "sync"

// turns gives one caller at a time a VM, and forgets VMs that nobody asks for.
type turns struct {
	mu   sync.Mutex
	held map[string]*turn
}

type turn struct {
	sync.Mutex
	users int // who holds it or waits for it
}

// take waits for a VM's turn, and answers what ends it.
func (t *turns) take(id string) (done func()) {
	t.mu.Lock()
	if t.held == nil {
		t.held = make(map[string]*turn)
	}
	mine := t.held[id]
	if mine == nil {
		mine = &turn{}
		t.held[id] = mine
	}
	mine.users++
	t.mu.Unlock()
	mine.Lock()
	return func() {
		mine.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.held, id)
		}
	}
}
