package types

import "time"

// WorkerState is a worker's standing.
type WorkerState string

// The states of a worker.
const (
	WorkerReady    WorkerState = "ready"    // takes new work
	WorkerDraining WorkerState = "draining" // finishes what it has
	WorkerLost     WorkerState = "lost"     // its heartbeat stopped
)

// Capacity is what a worker has, or what of it is taken.
type Capacity struct {
	VCPUs     int `json:"vcpus"`
	MemoryMiB int `json:"memory_mib"`
	DiskMiB   int `json:"disk_mib"`
	VMs       int `json:"vms"`
}

// RuntimeStatus is a runtime on one worker: proven by running a guest, or why not.
type RuntimeStatus struct {
	Name         string   `json:"name"`
	Version      string   `json:"version,omitempty"`
	Proven       bool     `json:"proven"`
	Reason       string   `json:"reason,omitempty" doc:"Why it is not proven, with the remedy."`
	Capabilities []string `json:"capabilities,omitempty"`
}

// Worker is a host that runs VMs.
type Worker struct {
	ID          string            `json:"id"`
	Hostname    string            `json:"hostname"`
	State       WorkerState       `json:"state"`
	Address     string            `json:"address" doc:"Where gateways reach its VMs: http://host:port or unix:///path."`
	Labels      map[string]string `json:"labels,omitempty"`
	Runtimes    []RuntimeStatus   `json:"runtimes"` // the first proven one is the worker's default
	Capacity    Capacity          `json:"capacity"`
	Reserved    Capacity          `json:"reserved"`
	Version     string            `json:"version"`
	StartedAt   time.Time         `json:"started_at"`
	HeartbeatAt time.Time         `json:"heartbeat_at"`
}

// WorkerImage is an image as one worker holds it.
type WorkerImage struct {
	WorkerID  string    `json:"worker_id"`
	Digest    string    `json:"digest"`
	Ref       string    `json:"ref"`
	SizeBytes int64     `json:"size_bytes"`
	Layers    int       `json:"layers"`
	PulledAt  time.Time `json:"pulled_at"`
}

// Event is a recorded change.
type Event struct {
	ID       int64     `json:"id" doc:"Grows; use it as Last-Event-ID."`
	At       time.Time `json:"at"`
	Type     string    `json:"type" doc:"vm.state, task.state, worker.state or image.pulled."`
	VMID     string    `json:"vm_id,omitempty"`
	TaskID   string    `json:"task_id,omitempty"`
	WorkerID string    `json:"worker_id,omitempty"`
	State    string    `json:"state,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// The types of events. The last two are published to whoever listens and not
// kept.
const (
	EventVMState     = "vm.state"
	EventTaskState   = "task.state"
	EventWorkerState = "worker.state"
	EventImagePulled = "image.pulled"
	EventTaskCancel  = "task.cancel" // a running task shall end
	EventTaskOutput  = "task.output" // more output of a task is kept
)
