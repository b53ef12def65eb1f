package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

type TaskPath struct {
	Task string `path:"task" maxLength:"128" doc:"The task's id."`
}

type getTask struct {
	TaskPath
	Waiting
}

type listTasks struct {
	State  []string `query:"state,explode" doc:"Only tasks in this state; may be repeated."`
	Type   []string `query:"type,explode" doc:"Only tasks of this type; may be repeated."`
	VM     string   `query:"vm" doc:"Only tasks of this VM, by name or id."`
	Limit  int      `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string   `query:"cursor" doc:"next_cursor of the page before."`
}

func (g *Gateway) registerTasks() {
	get := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"Tasks"}}
	}
	huma.Register(g.api, get("listTasks", "/api/v1/tasks", "List tasks, newest first"), g.listTasks)
	huma.Register(g.api, get("getTask", "/api/v1/tasks/{task}", "Get a task"), func(ctx context.Context, in *getTask) (*body[types.Task], error) {
		t, err := g.Store.GetTask(ctx, in.Task)
		if err != nil {
			return nil, err
		}
		a, err := g.answer(ctx, t, in.Waiting)
		if err != nil {
			return nil, err
		}
		return &body[types.Task]{a.Body}, nil
	})
	huma.Register(g.api, huma.Operation{
		OperationID: "cancelTask", Method: http.MethodPost, Path: "/api/v1/tasks/{task}/cancel", Summary: "Cancel a task that has not ended", Tags: []string{"Tasks"},
	}, func(ctx context.Context, in *TaskPath) (*body[types.Task], error) {
		t, err := g.Store.CancelTask(ctx, in.Task)
		if err != nil {
			return nil, err
		}
		return &body[types.Task]{t}, nil
	})
}

func (g *Gateway) listTasks(ctx context.Context, in *listTasks) (*body[page[types.Task]], error) {
	f := store.TaskFilter{Limit: in.Limit, Cursor: in.Cursor}
	var bad types.FieldErrors
	for _, s := range in.State {
		if !slices.Contains(types.TaskStates(), types.TaskState(s)) {
			bad = append(bad, types.InvalidField("state", s, "is no state of a task", "use one of "+join(types.TaskStates())))
		}
		f.States = append(f.States, types.TaskState(s))
	}
	for _, t := range in.Type {
		if !slices.Contains(types.TaskTypes(), types.TaskType(t)) {
			bad = append(bad, types.InvalidField("type", t, "is no type of task", "use one of "+join(types.TaskTypes())))
		}
		f.Types = append(f.Types, types.TaskType(t))
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	if in.VM != "" {
		vm, err := g.Store.GetVM(ctx, in.VM)
		if err != nil {
			return nil, err
		}
		f.VMID = vm.ID
	}
	items, next, err := g.Store.ListTasks(ctx, f)
	return &body[page[types.Task]]{page[types.Task]{items, next}}, err
}

type workerPath struct {
	Worker string `path:"worker" maxLength:"128" doc:"The worker's id."`
}

type pullImage struct {
	Idempotent
	RawBody []byte
	Body    struct {
		types.ImagePull
		Worker string `json:"worker,omitempty" doc:"This worker alone; every ready one if empty."`
	}
}

type tasksAnswer struct {
	Status int
	Body   page[types.Task]
}

func (g *Gateway) registerFleet() {
	get := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"Fleet"}}
	}
	huma.Register(g.api, get("listWorkers", "/api/v1/workers", "List workers"), func(ctx context.Context, _ *struct{}) (*body[page[types.Worker]], error) {
		list, err := g.Store.ListWorkers(ctx)
		return &body[page[types.Worker]]{page[types.Worker]{Items: list}}, err
	})
	huma.Register(g.api, get("getWorker", "/api/v1/workers/{worker}", "Get a worker"), func(ctx context.Context, in *workerPath) (*body[types.Worker], error) {
		w, err := g.Store.GetWorker(ctx, in.Worker)
		if err != nil {
			return nil, err
		}
		return &body[types.Worker]{w}, nil
	})
	huma.Register(g.api, get("listImages", "/api/v1/images", "List the images that workers have"), func(ctx context.Context, _ *struct{}) (*body[page[types.WorkerImage]], error) {
		list, err := g.Store.ListImages(ctx)
		return &body[page[types.WorkerImage]]{page[types.WorkerImage]{Items: list}}, err
	})
	huma.Register(g.api, huma.Operation{
		OperationID: "pullImage", Method: http.MethodPost, Path: "/api/v1/images", Summary: "Have workers pull an image", Tags: []string{"Fleet"},
		DefaultStatus: http.StatusAccepted, MaxBodyBytes: maxBody,
	}, g.pullImage)
}

// pullImage makes a task for each worker that is meant.
func (g *Gateway) pullImage(ctx context.Context, in *pullImage) (*tasksAnswer, error) {
	if err := in.Body.Validate(); err != nil {
		return nil, err
	}
	workers, err := g.Store.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	workers = slices.DeleteFunc(workers, func(w types.Worker) bool {
		return w.State != types.WorkerReady || (in.Body.Worker != "" && w.ID != in.Body.Worker)
	})
	if len(workers) == 0 {
		return nil, types.InvalidField("worker", in.Body.Worker, "no such worker is ready", "see GET /api/v1/workers")
	}
	payload, err := json.Marshal(in.Body.ImagePull)
	if err != nil {
		return nil, err
	}
	a := &tasksAnswer{Status: http.StatusAccepted, Body: page[types.Task]{Items: []types.Task{}}}
	for _, w := range workers {
		key := in.Idempotent
		if key.Key != "" {
			key.Key += "/" + w.ID
		}
		t, err := g.submit(ctx, types.Task{Type: types.TaskImagePull, WorkerID: w.ID, Payload: payload}, key.of("pull", w.ID, in.RawBody))
		if err != nil {
			return nil, err
		}
		a.Body.Items = append(a.Body.Items, t)
	}
	return a, nil
}
