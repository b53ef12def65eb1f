package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// holding is something that a VM holds of this machine.
type holding struct {
	what string // as a person would look for it
	data string // the data folder that its path tells; empty where it tells none
	vm   string
}

// inVM takes the path of something of a VM's apart. The runtime keeps VMs in
// gvisor/vms of its data folder.
var inVM = regexp.MustCompile(`(/[^ =]*)/gvisor/vms/([a-zA-Z0-9-]+)`)

// machine is the host that is looked at: its file system's root, which is
// another one in tests.
type machine string

func (m machine) path(elem ...string) string {
	return filepath.Join(append([]string{string(m), "/"}, elem...)...)
}

// leftovers lists what VMs hold of this machine although no data folder knows
// them, and how many VMs are known. Folders beside dataDir are found by what
// their VMs hold.
func (m machine) leftovers(dataDir string) (left []string, known int) {
	held := slices.Concat(m.mounts(), m.loops(), m.processes(), m.cgroups())
	folders := []string{dataDir}
	for _, h := range held {
		if h.data != "" && !slices.Contains(folders, h.data) {
			folders = append(folders, h.data)
		}
	}
	vms := map[string]bool{}
	for _, dir := range folders {
		for _, id := range m.vmsOf(dir) {
			vms[id] = true
		}
	}
	for _, h := range held {
		if !vms[h.vm] {
			left = append(left, h.what)
		}
	}
	if len(vms) == 0 {
		left = append(left, m.networks()...)
	}
	return left, len(vms)
}

// vmsOf lists the VMs of a data folder. While a platform runs on it, a VM without
// a record is being made; else it was left half made.
func (m machine) vmsOf(dataDir string) []string {
	dirs, _ := filepath.Glob(m.path(dataDir, "gvisor/vms/*"))
	used := m.inUse(dataDir)
	var ids []string
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "record.json")); err == nil || used {
			ids = append(ids, filepath.Base(dir))
		}
	}
	return ids
}

// inUse reports whether a process holds a data folder's lock.
func (m machine) inUse(dataDir string) bool {
	f, err := os.Open(m.path(dataDir, "lock"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

func (m machine) mounts() []holding {
	text, _ := os.ReadFile(m.path("proc/self/mounts"))
	var list []holding
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if found := inVM.FindStringSubmatch(f[1]); found != nil {
			list = append(list, holding{"mount " + f[1], found[1], found[2]})
		}
	}
	return list
}

func (m machine) loops() []holding {
	files, _ := filepath.Glob(m.path("sys/block/loop*/loop/backing_file"))
	var list []holding
	for _, file := range files {
		backing, _ := os.ReadFile(file)
		if found := inVM.FindStringSubmatch(string(backing)); found != nil {
			device := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(file)))
			list = append(list, holding{"loop device " + device, found[1], found[2]})
		}
	}
	return list
}

// processes finds runsc's, whose command line names the bundle.
func (m machine) processes() []holding {
	files, _ := filepath.Glob(m.path("proc/[0-9]*/cmdline"))
	var list []holding
	for _, file := range files {
		args, _ := os.ReadFile(file)
		if !strings.HasPrefix(string(args), "runsc-") {
			continue
		}
		if found := inVM.FindStringSubmatch(strings.ReplaceAll(string(args), "\x00", " ")); found != nil {
			list = append(list, holding{"process " + filepath.Base(filepath.Dir(file)), found[1], found[2]})
		}
	}
	return list
}

func (m machine) cgroups() []holding {
	v1, _ := filepath.Glob(m.path("sys/fs/cgroup/*/aetherium/*"))
	v2, _ := filepath.Glob(m.path("sys/fs/cgroup/aetherium/*"))
	var list []holding
	for _, dir := range slices.Concat(v1, v2) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			list = append(list, holding{"cgroup " + strings.TrimPrefix(dir, string(m)), "", filepath.Base(dir)})
		}
	}
	return list
}

// networks lists what VMs have of the network. Its names do not tell whose they
// are, so they are left over for certain only where there is no VM.
func (m machine) networks() []string {
	namespaces, _ := filepath.Glob(m.path("run/netns/aether-*"))
	veths, _ := filepath.Glob(m.path("sys/class/net/ae[0-9a-f]*"))
	var list []string
	for _, path := range namespaces {
		list = append(list, "network namespace "+filepath.Base(path))
	}
	for _, path := range veths {
		if len(filepath.Base(path)) == 15 { // a VM's; bridges have shorter names
			list = append(list, "interface "+filepath.Base(path))
		}
	}
	return list
}

func (p *program) checkLeftovers(context.Context) []finding {
	left, known := machine("").leftovers(p.settings.DataDir)
	if len(left) == 0 {
		return []finding{{Check: "leftovers", Verdict: verdictOK, Reason: fmt.Sprintf("none, beside what %d known VMs hold", known)}}
	}
	return []finding{{
		Check: "leftovers", Verdict: verdictFail, Reason: "held by VMs that no data folder knows: " + strings.Join(left, ", "),
		Remedy: "start the worker of their data folder, which sweeps, or run aetherium cleanup --data-dir FOLDER",
	}}
}
