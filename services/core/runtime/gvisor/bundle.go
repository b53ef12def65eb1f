package gvisor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/aetherium/aetherium/services/core/network"
	"github.com/aetherium/aetherium/services/core/runtime"
)

const (
	guestAgent = "/run/aetherium/bin/aether-agent"
	guestDir   = "/run/aetherium/sock"
	socketName = "agent.sock"

	// overheadMiB is the host memory of the sandbox and its gofer beside the
	// guest's own: an idle pair has 64 MiB resident.
	overheadMiB = 128
	// leastMiB is what runsc needs to start the smallest guest with.
	leastMiB = 64
	// hostPids bounds the sandbox's host processes and threads, a few for each of
	// the guest's.
	hostPids  = 8192
	cpuPeriod = 100_000 // microseconds
)

// capabilities are what root in the guest may do, Docker's usual ones and ptrace
// for debuggers. They are gVisor's to grant: on the host they mean nothing.
var capabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_NICE",
}

// writeBundle writes the VM's OCI bundle: config.json of the runtime spec.
func (r *Runtime) writeBundle(v vm, s runtime.Spec, e network.Endpoint) error {
	// runsc shows the guest the limit that its cgroup has as it starts; launch adds
	// the overhead afterwards.
	memory := int64(max(s.MemoryMiB, leastMiB)) << 20
	quota, period, pids := int64(s.VCPUs)*cpuPeriod, uint64(cpuPeriod), int64(hostPids)
	spec := specs.Spec{
		Version:  specs.Version,
		Hostname: s.Hostname,
		Root:     &specs.Root{Path: v.path("rootfs")},
		Process: &specs.Process{
			Args: []string{guestAgent, "--listen", "unix:" + guestDir + "/" + socketName},
			Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cwd:  "/",
			Capabilities: &specs.LinuxCapabilities{
				Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
			},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 20, Soft: 65536}},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777", fmt.Sprintf("size=%dm", max(s.MemoryMiB/2, 16))}},
			// Without this runsc would keep /tmp in memory.
			{Destination: "/tmp", Type: "bind", Source: v.path("disk/tmp"), Options: []string{"rbind", "rw"}},
			{Destination: filepath.Dir(guestAgent), Type: "bind", Source: v.path("bin"), Options: []string{"rbind", "ro"}},
			{Destination: guestDir, Type: "bind", Source: v.path("sock"), Options: []string{"rbind", "rw"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: cgroupPath(v.id),
			Resources: &specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: &memory},
				CPU:    &specs.LinuxCPU{Quota: &quota, Period: &period},
				Pids:   &specs.LinuxPids{Limit: &pids},
			},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace, Path: e.NetNS},
			},
		},
	}
	for _, b := range s.Image.Binds {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: b.GuestPath, Type: "bind", Source: b.HostPath, Options: []string{"rbind", "ro"}})
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(v.path("config.json"), b, 0o600)
}
