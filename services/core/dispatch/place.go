package dispatch

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

// place finds a worker for a new VM: ready, with the runtime proven, the labels,
// and room; of those the one with the largest part of its memory free. If there
// is none the task waits, and the reason says which demand left nobody.
func place(vm types.VM, workers []types.Worker) store.Decision {
	if len(workers) == 0 {
		return wait("no worker has joined yet; start one with aetherium worker")
	}
	ready := keep(workers, func(w types.Worker) bool { return w.State == types.WorkerReady })
	if len(ready) == 0 {
		return wait("no worker is ready: %s", each(workers, func(w types.Worker) string { return string(w.State) }))
	}
	proven := keep(ready, func(w types.Worker) bool { return proves(w, vm.Runtime) })
	if len(proven) == 0 {
		return wait("no ready worker has proven %s: %s", runtimeName(vm), each(ready, func(w types.Worker) string { return whyNot(w, vm.Runtime) }))
	}
	labeled := keep(proven, func(w types.Worker) bool { return len(missing(vm.Placement, w.Labels)) == 0 })
	if len(labeled) == 0 {
		return wait("no worker that has %s has the labels asked for: %s", runtimeName(vm),
			each(proven, func(w types.Worker) string { return "lacks " + strings.Join(missing(vm.Placement, w.Labels), ", ") }))
	}
	need := types.Capacity{VCPUs: vm.VCPUs, MemoryMiB: vm.MemoryMiB, DiskMiB: vm.DiskMiB, VMs: 1}
	large := keep(labeled, func(w types.Worker) bool { return len(short(need, whole(w))) == 0 })
	if len(large) == 0 {
		return wait("more than any worker has: %s", largest(need, labeled))
	}
	free := keep(large, func(w types.Worker) bool { return len(short(need, left(w))) == 0 })
	if len(free) == 0 {
		return wait("no worker has room now: %s", each(large, func(w types.Worker) string { return strings.Join(short(need, left(w)), ", ") }))
	}
	best := slices.MinFunc(free, func(a, b types.Worker) int {
		return cmp.Or(cmp.Compare(freeMemory(b), freeMemory(a)), cmp.Compare(a.Reserved.VMs, b.Reserved.VMs), cmp.Compare(a.ID, b.ID))
	})
	return store.Decision{WorkerID: best.ID}
}

func keep(workers []types.Worker, ok func(types.Worker) bool) []types.Worker {
	var kept []types.Worker
	for _, w := range workers {
		if ok(w) {
			kept = append(kept, w)
		}
	}
	return kept
}

// each lists what is so of each worker, the first few of them, in a fixed order
// so that a reason that did not change reads the same.
func each(workers []types.Worker, say func(types.Worker) string) string {
	const most = 3
	sorted := slices.SortedFunc(slices.Values(workers), func(a, b types.Worker) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID))
	})
	var parts []string
	for _, w := range sorted[:min(most, len(sorted))] {
		parts = append(parts, w.Hostname+" "+say(w))
	}
	if n := len(sorted) - most; n > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(parts, "; ")
}

func runtimeName(vm types.VM) string {
	if vm.Runtime == "" {
		return "a runtime"
	}
	return "runtime " + vm.Runtime
}

func proves(w types.Worker, name string) bool {
	return slices.ContainsFunc(w.Runtimes, func(r types.RuntimeStatus) bool {
		return r.Proven && (name == "" || r.Name == name)
	})
}

func whyNot(w types.Worker, name string) string {
	var why []string
	for _, r := range w.Runtimes {
		if name == "" || r.Name == name {
			why = append(why, fmt.Sprintf("could not prove %s: %s", r.Name, r.Reason))
		}
	}
	if len(why) == 0 {
		return "does not have it"
	}
	return strings.Join(why, ", ")
}

func missing(want, have map[string]string) []string {
	var lack []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := have[k]; !ok || v != want[k] {
			lack = append(lack, k+"="+want[k])
		}
	}
	return lack
}

// whole is what a worker has; one that names no number of VMs has no limit.
func whole(w types.Worker) types.Capacity {
	c := w.Capacity
	if c.VMs == 0 {
		c.VMs = math.MaxInt32
	}
	return c
}

func left(w types.Worker) types.Capacity {
	c := whole(w)
	c.VCPUs -= w.Reserved.VCPUs
	c.MemoryMiB -= w.Reserved.MemoryMiB
	c.DiskMiB -= w.Reserved.DiskMiB
	c.VMs -= w.Reserved.VMs
	return c
}

func freeMemory(w types.Worker) float64 {
	if w.Capacity.MemoryMiB == 0 {
		return 0
	}
	return float64(left(w).MemoryMiB) / float64(w.Capacity.MemoryMiB)
}

// measures are the sides of a capacity, in the words of a reason.
var measures = []struct {
	format string
	of     func(types.Capacity) int
}{
	{"%d vcpus", func(c types.Capacity) int { return c.VCPUs }},
	{"%d MiB of memory", func(c types.Capacity) int { return c.MemoryMiB }},
	{"%d MiB of disk", func(c types.Capacity) int { return c.DiskMiB }},
	{"%d more VMs", func(c types.Capacity) int { return c.VMs }},
}

// short says what of need is not there, as "has 256 of 512 MiB of memory".
func short(need, have types.Capacity) []string {
	var lack []string
	for _, m := range measures {
		if n, h := m.of(need), m.of(have); h < n {
			lack = append(lack, fmt.Sprintf("has %d of "+m.format, max(h, 0), n))
		}
	}
	return lack
}

// largest says for each demand that nobody can ever meet what the largest has.
func largest(need types.Capacity, workers []types.Worker) string {
	var lack []string
	for _, m := range measures {
		best := slices.MaxFunc(workers, func(a, b types.Worker) int { return cmp.Compare(m.of(whole(a)), m.of(whole(b))) })
		if n := m.of(need); m.of(whole(best)) < n {
			lack = append(lack, fmt.Sprintf(m.format+" asked for, the largest worker (%s) has %d", n, best.Hostname, m.of(whole(best))))
		}
	}
	if len(lack) == 0 {
		return "no one worker has all of it together"
	}
	return strings.Join(lack, "; ")
}
