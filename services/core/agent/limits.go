package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// watchEvery is how often memory and processes are counted while execs run.
const watchEvery = 25 * time.Millisecond

// watchLimits ends the exec that takes more than the machine has, before the
// host ends the whole machine for it. It looks only while something runs.
func (a *Agent) watchLimits(ctx context.Context) {
	for {
		a.mu.Lock()
		started := a.watch
		a.mu.Unlock()
		if len(a.running()) == 0 {
			select {
			case <-started:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(watchEvery):
		case <-ctx.Done():
			return
		}
		a.mu.Lock()
		hello := a.hello
		a.mu.Unlock()
		if hello.GetMemoryLimitBytes() > 0 || hello.GetProcessLimit() > 0 {
			a.enforce(hello.GetMemoryLimitBytes(), int(hello.GetProcessLimit()))
		}
	}
}

// usage is what one exec's session takes.
type usage struct {
	resident  int64
	processes int
}

func (a *Agent) enforce(memoryLimit int64, processLimit int) {
	bySession := map[int]usage{}
	var total usage
	for _, p := range allProcesses() {
		u := bySession[p.session]
		u.resident += p.residentBytes
		u.processes++
		bySession[p.session] = u
		total.resident += p.residentBytes
		total.processes++
	}
	mem := memory()
	used := int64(mem.total - min(mem.available, mem.total))
	switch {
	case memoryLimit > 0 && max(used, total.resident) > memoryLimit:
		if p, u := a.largest(bySession, func(u usage) int64 { return u.resident }); p != nil && u.resident > memoryLimit/4 {
			p.end(a.reaper, agentapi.EndReason_END_REASON_OUT_OF_MEMORY,
				fmt.Sprintf("the machine's memory limit of %d MiB was reached; this command had %d MiB", memoryLimit>>20, u.resident>>20))
		}
	case processLimit > 0 && total.processes > processLimit:
		if p, u := a.largest(bySession, func(u usage) int64 { return int64(u.processes) }); p != nil {
			p.end(a.reaper, agentapi.EndReason_END_REASON_TOO_MANY_PROCESSES,
				fmt.Sprintf("the machine's limit of %d processes was reached; this command had %d", processLimit, u.processes))
		}
	}
}

// largest finds the running exec that takes most.
func (a *Agent) largest(bySession map[int]usage, of func(usage) int64) (found *process, most usage) {
	for _, p := range a.running() {
		p.mu.Lock()
		u, ok := bySession[p.pid]
		p.mu.Unlock()
		if ok && (found == nil || of(u) > of(most)) {
			found, most = p, u
		}
	}
	return found, most
}
