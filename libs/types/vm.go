package types

import "time"

// VMState is where a VM is in its life.
type VMState string

// The states of a VM.
const (
	VMPending  VMState = "pending"  // accepted, not yet on a worker
	VMCreating VMState = "creating" // a worker is making it
	VMRunning  VMState = "running"  // its agent answers
	VMStopped  VMState = "stopped"  // shut down, its disk kept
	VMPaused   VMState = "paused"   // frozen, its memory kept
	VMDeleting VMState = "deleting" // being freed
	VMDeleted  VMState = "deleted"  // freed; kept as a record
	VMFailed   VMState = "failed"   // ended by a fault, its reason recorded
	VMLost     VMState = "lost"     // its worker is gone
)

// vmTransitions is every change of state that is allowed; nothing else is.
var vmTransitions = map[VMState][]VMState{
	VMPending:  {VMCreating, VMFailed, VMDeleting, VMDeleted},
	VMCreating: {VMRunning, VMFailed, VMDeleting, VMLost, VMPending},
	VMRunning:  {VMStopped, VMPaused, VMDeleting, VMFailed, VMLost},
	VMStopped:  {VMRunning, VMDeleting, VMFailed, VMLost},
	VMPaused:   {VMRunning, VMDeleting, VMFailed, VMLost},
	VMDeleting: {VMDeleted},
	VMDeleted:  {},
	VMFailed:   {VMDeleting, VMDeleted},
	VMLost:     {VMDeleting, VMDeleted},
}

// VMStates lists every state in the order of a VM's life.
func VMStates() []VMState {
	return []VMState{VMPending, VMCreating, VMRunning, VMPaused, VMStopped, VMDeleting, VMDeleted, VMFailed, VMLost}
}

// CanBecome reports whether a VM may go from s to next.
func (s VMState) CanBecome(next VMState) bool {
	for _, n := range vmTransitions[s] {
		if n == next {
			return true
		}
	}
	return false
}

// Live reports whether the VM holds its name and its share of a worker.
func (s VMState) Live() bool { return s != VMDeleted }

// NetworkMode says what a VM may reach.
type NetworkMode string

// The network modes.
const (
	NetworkNAT  NetworkMode = "nat"  // the internet by the host's address; no host, no other VM, no private range
	NetworkNone NetworkMode = "none" // loopback alone
)

// VMSpec is what a client asks for. Zero values mean the platform's defaults.
type VMSpec struct {
	Name      string            `json:"name,omitempty" doc:"Unique among live VMs; made up if empty." maxLength:"63"`
	Image     string            `json:"image,omitempty" doc:"host, an OCI reference, or a path the worker knows: oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR." maxLength:"512"`
	Runtime   string            `json:"runtime,omitempty" doc:"Runtime to use; empty lets the platform choose." maxLength:"32"`
	VCPUs     int               `json:"vcpus,omitempty" doc:"Virtual CPUs."`
	MemoryMiB int               `json:"memory_mib,omitempty" doc:"Memory in MiB."`
	DiskMiB   int               `json:"disk_mib,omitempty" doc:"Size limit of the writable disk in MiB."`
	Env       map[string]string `json:"env,omitempty" doc:"Environment of every exec in the VM."`
	Labels    map[string]string `json:"labels,omitempty" doc:"Free labels, for lists."`
	Placement map[string]string `json:"placement,omitempty" doc:"Labels that the worker must have."`
	Network   NetworkMode       `json:"network,omitempty" doc:"nat or none."`
}

// VM is an isolated machine and its record.
type VM struct {
	ID string `json:"id" doc:"UUIDv7."`
	VMSpec
	State       VMState    `json:"state"`
	Reason      string     `json:"reason,omitempty" doc:"Why it is in this state."`
	ReasonKind  Kind       `json:"reason_kind,omitempty" doc:"The error kind behind a failure."`
	Version     int64      `json:"version" doc:"Grows by one with every change."`
	ImageDigest string     `json:"image_digest,omitempty"`
	WorkerID    string     `json:"worker_id,omitempty"`
	IP          string     `json:"ip,omitempty" doc:"Its address on the worker's bridge."`
	CreatedAt   time.Time  `json:"created_at"`
	StartedAt   *time.Time `json:"started_at,omitempty"`
	EndedAt     *time.Time `json:"ended_at,omitempty" doc:"When it was deleted."`
}
