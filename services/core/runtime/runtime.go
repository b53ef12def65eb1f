// Package runtime is the seam between a worker and what isolates its VMs. A
// driver owns processes, namespaces, cgroups, mounts and disks on this host and
// nothing else: what goes on inside a VM is the guest agent's business, and what
// ought to exist is the worker's. The suite in runtimetest says exactly how a
// driver must behave.
package runtime

import (
	"context"
	"net"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/image"
)

// Capability is an ability that not every runtime has. A call that needs a
// missing one fails with types.KindUnsupported.
type Capability string

// The capabilities.
const (
	CapPause   Capability = "pause"   // Pause and Resume
	CapRestart Capability = "restart" // Stop keeps the disk, Start boots from it
	CapNetwork Capability = "network" // types.NetworkNAT
)

// Runtime makes and ends VMs on this host. Every method may be called from
// many goroutines, and for one VM again after a crash at any line: each looks at
// what is there and converges. Errors are *types.Error; a VM that this host does
// not have is types.KindNotFound.
type Runtime interface {
	// Name is the runtime's name in VM specs and worker records, as "gvisor".
	Name() string
	// Probe proves the runtime by running a guest to its end.
	Probe(ctx context.Context) types.RuntimeStatus
	// Create makes the VM's disk, network and sandbox and starts it. When it
	// returns, Dial can be tried; the agent may need a moment more. A Create that
	// fails leaves nothing behind.
	Create(ctx context.Context, spec Spec) (Instance, error)
	// Start boots a stopped VM from its disk.
	Start(ctx context.Context, id string) (Instance, error)
	// Stop ends the sandbox and keeps the disk. The guest was asked to shut down
	// before; Stop does not wait for it.
	Stop(ctx context.Context, id string) error
	// Pause freezes the VM, Resume lets it go on. Both may be repeated.
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	// Delete frees all that the VM holds. Deleting what is gone is no error.
	Delete(ctx context.Context, id string) error
	// List answers every VM that has anything on this host, whole or not.
	List(ctx context.Context) ([]Instance, error)
	// Dial opens a stream to the VM's guest agent.
	Dial(ctx context.Context, id string) (net.Conn, error)
	// Wait blocks until the VM's sandbox is not running any more, and answers why.
	// It works for VMs that an earlier process started.
	Wait(ctx context.Context, id string) (Exit, error)
	// Stats measures the VM from outside.
	Stats(ctx context.Context, id string) (Stats, error)
}

// Spec is what a VM is made from: all of it decided, no defaults left.
type Spec struct {
	ID        string // UUID; names every host resource
	Hostname  string
	Image     *image.Image
	VCPUs     int
	MemoryMiB int
	DiskMiB   int
	Network   types.NetworkMode
}

// State is what a driver sees of a VM on this host.
type State string

// The states a driver can tell apart.
const (
	StateRunning State = "running"
	StatePaused  State = "paused"
	StateStopped State = "stopped" // disk kept, nothing runs
	StateBroken  State = "broken"  // left half-made or half-freed; Delete clears it
)

// Instance is a VM on this host.
type Instance struct {
	ID    string
	State State
	IP    string // empty with types.NetworkNone
}

// Exit is how a sandbox ended.
type Exit struct {
	// Kind is types.KindOutOfMemory where the memory limit ended it, empty where
	// Stop or Delete did, types.KindInternal otherwise.
	Kind   types.Kind
	Reason string
	At     time.Time
}

// Stats is what a VM uses of its host.
type Stats struct {
	MemoryBytes uint64        // resident, with the runtime's own
	CPUTime     time.Duration // since the VM started
	DiskBytes   uint64        // really allocated
	Processes   int           // on the host, of this VM
}
