package gvisor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupParent holds the cgroups of all VMs.
const cgroupParent = "/aetherium"

func cgroupPath(id string) string { return cgroupParent + "/" + id }

const cgroupRoot = "/sys/fs/cgroup"

// unified reports whether this host has cgroup v2 alone; else each controller
// has a hierarchy of its own: cgroups(7).
var unified = func() bool {
	var st unix.Statfs_t
	return unix.Statfs(cgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}()

// cgroup is a VM's cgroup, in whichever version.
type cgroup struct{ path string }

func (r *Runtime) cgroupOf(v vm) cgroup { return cgroup{cgroupPath(v.id)} }

func (c cgroup) file(controller, name string) string {
	if unified {
		return filepath.Join(cgroupRoot, c.path, name)
	}
	return filepath.Join(cgroupRoot, controller, c.path, name)
}

func (c cgroup) read(controller, name string) string {
	b, err := os.ReadFile(c.file(controller, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (c cgroup) number(controller, name string) uint64 {
	n, _ := strconv.ParseUint(c.read(controller, name), 10, 64)
	return n
}

// value is the number behind a key in a file of "key number" lines.
func (c cgroup) value(controller, name, key string) uint64 {
	for line := range strings.Lines(c.read(controller, name)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// oomKills is how often the memory limit has killed something.
func (c cgroup) oomKills() uint64 {
	if unified {
		return c.value("", "memory.events", "oom_kill")
	}
	return c.value("memory", "memory.oom_control", "oom_kill")
}

func (c cgroup) memory() uint64 {
	if unified {
		return c.number("", "memory.current")
	}
	return c.number("memory", "memory.usage_in_bytes")
}

func (c cgroup) cpu() time.Duration {
	if unified {
		return time.Duration(c.value("", "cpu.stat", "usage_usec")) * time.Microsecond
	}
	return time.Duration(c.number("cpuacct", "cpuacct.usage"))
}

// pids are the cgroup's processes. Pid 0 is one of another pid namespace.
func (c cgroup) pids() []int {
	var pids []int
	for _, f := range strings.Fields(c.read("pids", "cgroup.procs")) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// holds reports whether a process is in the cgroup: proc_pid_cgroup(5). A dead
// one that nobody has collected is still in its cgroup.
func (c cgroup) holds(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(strings.TrimSpace(line), " (deleted)")
		if strings.HasSuffix(line, c.path) { // below the worker's own cgroup in a container
			return true
		}
	}
	return false
}

// limitMemory sets the limit of a cgroup that has processes already, and gives
// it no swap where the host has any.
func (c cgroup) limitMemory(bytes int64) error {
	limit, swap := c.file("memory", "memory.limit_in_bytes"), c.file("memory", "memory.swappiness")
	if unified {
		limit, swap = c.file("", "memory.max"), c.file("", "memory.swap.max")
	}
	_ = os.WriteFile(swap, []byte("0"), 0) // not every kernel counts swap
	return os.WriteFile(limit, []byte(strconv.FormatInt(bytes, 10)), 0)
}

// remove removes the cgroup from every hierarchy, and waits a moment for the
// kernel to have let the last process go. What is not there is no error.
func (c cgroup) remove() error {
	dirs := []string{filepath.Join(cgroupRoot, c.path)}
	if !unified {
		dirs, _ = filepath.Glob(filepath.Join(cgroupRoot, "*", c.path))
	}
	var last error
	for _, dir := range dirs {
		if err := removeCgroup(dir); err != nil {
			last = err
		}
	}
	return last
}

func removeCgroup(dir string) error {
	const tries, between = 200, 5 * time.Millisecond
	var err error
	for range tries {
		if err = unix.Rmdir(dir); err == nil || os.IsNotExist(err) {
			return nil
		}
		time.Sleep(between)
	}
	return err
}
