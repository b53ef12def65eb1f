package types

import (
	"encoding/json"
	"time"
)

// TaskType is a kind of durable work.
type TaskType string

// The task types.
const (
	TaskVMCreate  TaskType = "vm:create"
	TaskVMStart   TaskType = "vm:start"
	TaskVMStop    TaskType = "vm:stop"
	TaskVMPause   TaskType = "vm:pause"
	TaskVMResume  TaskType = "vm:resume"
	TaskVMExecute TaskType = "vm:execute"
	TaskVMDelete  TaskType = "vm:delete"
	TaskImagePull TaskType = "image:pull"
)

// TaskTypes lists every type.
func TaskTypes() []TaskType {
	return []TaskType{
		TaskVMCreate, TaskVMStart, TaskVMStop, TaskVMPause, TaskVMResume, TaskVMExecute, TaskVMDelete, TaskImagePull,
	}
}

// TaskState is where a task is in its life.
type TaskState string

// The states of a task.
const (
	TaskPending   TaskState = "pending"   // accepted; waits for a place, and Reason says why
	TaskQueued    TaskState = "queued"    // placed on a worker's queue
	TaskRunning   TaskState = "running"   // a worker holds its lease
	TaskSucceeded TaskState = "succeeded" // done; Result is set
	TaskFailed    TaskState = "failed"    // over; Error is set
	TaskCanceled  TaskState = "canceled"  // over at someone's wish
)

var taskTransitions = map[TaskState][]TaskState{
	TaskPending:   {TaskQueued, TaskFailed, TaskCanceled},
	TaskQueued:    {TaskRunning, TaskPending, TaskFailed, TaskCanceled},
	TaskRunning:   {TaskSucceeded, TaskFailed, TaskCanceled, TaskPending},
	TaskSucceeded: {},
	TaskFailed:    {},
	TaskCanceled:  {},
}

// TaskStates lists every state in the order of a task's life.
func TaskStates() []TaskState {
	return []TaskState{TaskPending, TaskQueued, TaskRunning, TaskSucceeded, TaskFailed, TaskCanceled}
}

// CanBecome reports whether a task may go from s to next.
func (s TaskState) CanBecome(next TaskState) bool {
	for _, n := range taskTransitions[s] {
		if n == next {
			return true
		}
	}
	return false
}

// Ended reports whether the task is over.
func (s TaskState) Ended() bool { return len(taskTransitions[s]) == 0 }

// Priority orders tasks.
type Priority string

// The priorities, most urgent first.
const (
	PriorityCritical Priority = "critical"
	PriorityHigh     Priority = "high"
	PriorityDefault  Priority = "default"
	PriorityLow      Priority = "low"
)

// Priorities lists the priorities, most urgent first.
func Priorities() []Priority {
	return []Priority{PriorityCritical, PriorityHigh, PriorityDefault, PriorityLow}
}

// Task is one durable piece of work. It ends exactly once.
type Task struct {
	ID              string          `json:"id" doc:"UUIDv7."`
	Type            TaskType        `json:"type"`
	State           TaskState       `json:"state"`
	Priority        Priority        `json:"priority"`
	VMID            string          `json:"vm_id,omitempty"`
	WorkerID        string          `json:"worker_id,omitempty"`
	Attempt         int             `json:"attempt" doc:"How often it has been queued."`
	MaxAttempts     int             `json:"max_attempts"`
	Reason          string          `json:"reason,omitempty" doc:"Why it waits, or how it ended."`
	CancelRequested bool            `json:"cancel_requested,omitempty"`
	Payload         json.RawMessage `json:"payload,omitempty" doc:"What was asked for: an exec, or an image reference."`
	Result          json.RawMessage `json:"result,omitempty" doc:"For vm:execute, its exec result."`
	Error           *Error          `json:"error,omitempty"`
	CreatedAt       time.Time       `json:"created_at"`
	QueuedAt        *time.Time      `json:"queued_at,omitempty"`
	StartedAt       *time.Time      `json:"started_at,omitempty"`
	EndedAt         *time.Time      `json:"ended_at,omitempty"`
}

// ImagePull is the payload of an image:pull task.
type ImagePull struct {
	Ref string `json:"ref"`
}
