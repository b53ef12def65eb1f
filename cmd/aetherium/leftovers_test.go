package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// fakeMachine makes a machine of files.
func fakeMachine(t *testing.T, files map[string]string) machine {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return machine(root)
}

func TestLeftovers(t *testing.T) {
	known := map[string]string{
		"data/gvisor/vms/vm-1/record.json":            "{}",
		"other/gvisor/vms/vm-2/record.json":           "{}",
		"proc/self/mounts":                            "overlay /data/gvisor/vms/vm-1/rootfs overlay rw 0 0\nproc /proc proc rw 0 0\n",
		"proc/7/cmdline":                              "runsc-sandbox\x00--root=/other/gvisor/runsc\x00boot\x00--bundle=/other/gvisor/vms/vm-2\x00vm-2\x00",
		"proc/8/cmdline":                              "vi\x00/data/gvisor/vms/gone/config.json\x00",
		"sys/fs/cgroup/memory/aetherium/vm-1/tasks":   "",
		"sys/fs/cgroup/memory/aetherium/vm-2/tasks":   "",
		"sys/block/loop3/loop/backing_file":           "/data/gvisor/vms/vm-1/disk.img\n",
		"sys/block/loop4/loop/backing_file":           "/home/somebody/cd.iso\n",
		"run/netns/aether-1660db-dffcef115b1e":        "",
		"sys/class/net/ae1660dffcef115/ifindex":       "",
		"sys/class/net/aether0/ifindex":               "",
		"data/gvisor/vms/.keep":                       "",
		"sys/fs/cgroup/memory/aetherium/cgroup.procs": "",
	}
	left, vms := fakeMachine(t, known).leftovers("/data")
	if len(left) != 0 || vms != 2 {
		t.Errorf("%d VMs, left over: %v", vms, left)
	}

	orphans := fakeMachine(t, map[string]string{
		"data/gvisor/vms/half/config.json":       "{}",
		"proc/self/mounts":                       "overlay /gone/gvisor/vms/a/rootfs overlay rw 0 0\n",
		"proc/9/cmdline":                         "runsc-gofer\x00--bundle=/data/gvisor/vms/half\x00half\x00",
		"sys/fs/cgroup/aetherium/b/cgroup.procs": "",
		"sys/block/loop0/loop/backing_file":      "/data/gvisor/vms/c/disk.img (deleted)\n",
		"run/netns/aether-1660db-dffcef115b1e":   "",
		"sys/class/net/ae1660dffcef115/ifindex":  "",
		"sys/class/net/aether0/ifindex":          "",
	})
	want := []string{
		"mount /gone/gvisor/vms/a/rootfs", "loop device /dev/loop0", "process 9", "cgroup /sys/fs/cgroup/aetherium/b",
		"network namespace aether-1660db-dffcef115b1e", "interface ae1660dffcef115",
	}
	if left, _ := orphans.leftovers("/data"); !slices.Equal(left, want) {
		t.Errorf("left over: %q\nwant %q", left, want)
	}

	// While a platform runs on the folder, half a VM is being made.
	lock, err := lockDataDir(orphans.path("data"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if left, vms := orphans.leftovers("/data"); vms != 1 || slices.Contains(left, "process 9") {
		t.Errorf("%d VMs, left over: %q", vms, left)
	}
}
