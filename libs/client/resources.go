package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// maxWait is how long one call lets the server hold its answer.
const maxWait = 30 * time.Second

func waitQuery(wait time.Duration) url.Values {
	if wait <= 0 {
		return nil
	}
	return url.Values{"wait": {wait.String()}}
}

// CreateVM asks for a VM and answers its task, whose VMID is the VM's. The server
// holds its answer until the task has ended or wait is over.
func (c *Client) CreateVM(ctx context.Context, spec types.VMSpec, wait time.Duration) (types.Task, error) {
	var t types.Task
	err := c.call(ctx, request{method: http.MethodPost, path: "/vms", query: waitQuery(wait), body: spec}, &t)
	return t, err
}

// GetVM answers a VM by name or id.
func (c *Client) GetVM(ctx context.Context, vm string) (types.VM, error) {
	var v types.VM
	err := c.call(ctx, request{method: http.MethodGet, path: vmPath(vm)}, &v)
	return v, err
}

// VMFilter chooses VMs.
type VMFilter struct {
	States []string
	Labels []string // "key=value"
	Name   string
}

func (f VMFilter) query() url.Values {
	q := url.Values{"state": f.States, "label": f.Labels}
	if f.Name != "" {
		q.Set("name", f.Name)
	}
	return q
}

// VMs goes through the VMs that a filter chooses, newest first.
func (c *Client) VMs(ctx context.Context, f VMFilter) iter.Seq2[types.VM, error] {
	return pages[types.VM](ctx, c, "/vms", f.query())
}

// ListVMs answers all VMs that a filter chooses, newest first.
func (c *Client) ListVMs(ctx context.Context, f VMFilter) ([]types.VM, error) {
	return collect(c.VMs(ctx, f), 0)
}

// DeleteVM asks for a VM's end.
func (c *Client) DeleteVM(ctx context.Context, vm string, wait time.Duration) (types.Task, error) {
	var t types.Task
	err := c.call(ctx, request{method: http.MethodDelete, path: vmPath(vm), query: waitQuery(wait)}, &t)
	return t, err
}

// Act asks for "start", "stop", "pause" or "resume".
func (c *Client) Act(ctx context.Context, vm, verb string, wait time.Duration) (types.Task, error) {
	var t types.Task
	err := c.call(ctx, request{method: http.MethodPost, path: vmPath(vm, verb), query: waitQuery(wait)}, &t)
	return t, err
}

// Execute asks for a command to be run in a VM.
func (c *Client) Execute(ctx context.Context, vm string, spec types.ExecSpec, wait time.Duration) (types.Task, error) {
	var t types.Task
	err := c.call(ctx, request{method: http.MethodPost, path: vmPath(vm, "execute"), query: waitQuery(wait), body: spec}, &t)
	return t, err
}

// GetTask answers a task; with wait, once it has ended or the time is over.
func (c *Client) GetTask(ctx context.Context, id string, wait time.Duration) (types.Task, error) {
	var t types.Task
	err := c.call(ctx, request{method: http.MethodGet, path: "/tasks/" + url.PathEscape(id), query: waitQuery(wait)}, &t)
	return t, err
}

// WaitTask waits until a task has ended, also past a restart of the server. tell,
// if not nil, hears of it about every second.
func (c *Client) WaitTask(ctx context.Context, t types.Task, tell func(types.Task)) (types.Task, error) {
	wait := maxWait
	if tell != nil {
		wait = time.Second
	}
	again := c.retry()
	for !t.State.Ended() {
		now, err := c.GetTask(ctx, t.ID, wait)
		switch {
		case connection(err):
			if err := again.after(ctx, err); err != nil {
				return t, err
			}
			continue
		case err != nil:
			return t, err
		}
		again.progressed()
		if t = now; tell != nil {
			tell(t)
		}
	}
	return t, nil
}

// TaskFilter chooses tasks.
type TaskFilter struct {
	States []string
	Types  []string
	VM     string
	Limit  int // at most; all if zero
}

// Tasks goes through the tasks that a filter chooses, newest first.
func (c *Client) Tasks(ctx context.Context, f TaskFilter) iter.Seq2[types.Task, error] {
	const most = 1000 // of one page
	q := url.Values{"state": f.States, "type": f.Types}
	if f.VM != "" {
		q.Set("vm", f.VM)
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(min(f.Limit, most)))
	}
	return pages[types.Task](ctx, c, "/tasks", q)
}

// ListTasks answers tasks, newest first.
func (c *Client) ListTasks(ctx context.Context, f TaskFilter) ([]types.Task, error) {
	return collect(c.Tasks(ctx, f), f.Limit)
}

// CancelTask cancels a task that has not ended.
func (c *Client) CancelTask(ctx context.Context, id string) (types.Task, error) {
	var t types.Task
	err := c.call(ctx, request{method: http.MethodPost, path: "/tasks/" + url.PathEscape(id) + "/cancel"}, &t)
	return t, err
}

// ListWorkers answers all workers.
func (c *Client) ListWorkers(ctx context.Context) ([]types.Worker, error) {
	return collect(pages[types.Worker](ctx, c, "/workers", url.Values{}), 0)
}

// GetWorker answers a worker.
func (c *Client) GetWorker(ctx context.Context, id string) (types.Worker, error) {
	var w types.Worker
	err := c.call(ctx, request{method: http.MethodGet, path: "/workers/" + url.PathEscape(id)}, &w)
	return w, err
}

// ListImages answers the images of all workers.
func (c *Client) ListImages(ctx context.Context) ([]types.WorkerImage, error) {
	return collect(pages[types.WorkerImage](ctx, c, "/images", url.Values{}), 0)
}

// PullImage has every ready worker, or the one named, pull an image, and answers
// their tasks.
func (c *Client) PullImage(ctx context.Context, ref, worker string) ([]types.Task, error) {
	var answer list[types.Task]
	err := c.call(ctx, request{method: http.MethodPost, path: "/images", body: struct {
		Ref    string `json:"ref"`
		Worker string `json:"worker,omitempty"`
	}{ref, worker}}, &answer)
	return answer.Items, err
}

// Ready asks whether the server can work.
func (c *Client) Ready(ctx context.Context) error {
	return c.call(ctx, request{method: http.MethodGet, path: "/readyz"}, nil)
}
