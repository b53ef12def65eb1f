package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

// Waiting is the parameter of whatever makes a task.
type Waiting struct {
	Wait string `query:"wait" doc:"Hold the answer until the task has ended, or for this long, as 30s; 10m at most."`
}

func (w Waiting) limit() (time.Duration, error) {
	if w.Wait == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(w.Wait)
	if err != nil || d < 0 || d > maxWait {
		return 0, types.InvalidField("wait", w.Wait, "is no duration in range", `use one as "30s", "10m" at most`)
	}
	return d, nil
}

// Idempotent is the header of whatever makes a task.
type Idempotent struct {
	Key string `header:"Idempotency-Key" maxLength:"255" doc:"A request that is repeated with its key is answered with the first one's task. Kept 24 hours."`
}

// of makes the key of an operation on a thing, with a body.
func (i Idempotent) of(operation, thing string, body []byte) store.Idempotency {
	if i.Key == "" {
		return store.Idempotency{}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", operation, thing, body))
	return store.Idempotency{Key: i.Key, RequestHash: hex.EncodeToString(sum[:])}
}

// taskAnswer is a task: 202 while it goes on, 200 once it has ended.
type taskAnswer struct {
	Status   int
	Location string `header:"Location"`
	Body     types.Task
}

// answer waits for a task as the client wishes.
func (g *Gateway) answer(ctx context.Context, t types.Task, w Waiting) (*taskAnswer, error) {
	limit, err := w.limit()
	if err != nil {
		return nil, err
	}
	if limit > 0 && !t.State.Ended() {
		if t, err = g.streams.Await(ctx, t.ID, limit); err != nil {
			return nil, err
		}
	}
	a := &taskAnswer{Status: http.StatusAccepted, Location: "/api/v1/tasks/" + t.ID, Body: t}
	if t.State.Ended() {
		a.Status = http.StatusOK
	}
	return a, nil
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// submit records a task and has it placed.
func (g *Gateway) submit(ctx context.Context, t types.Task, idem store.Idempotency) (types.Task, error) {
	t.ID = newID()
	t.MaxAttempts = maxAttempts
	t, _, err := g.Store.CreateTask(ctx, t, idem)
	if err == nil {
		g.Kick()
	}
	return t, err
}

type createVM struct {
	Waiting
	Idempotent
	RawBody []byte
	Body    types.VMSpec
}

type VMPath struct {
	VM string `path:"vm" maxLength:"128" doc:"Name or id."`
}

type vmAct struct {
	VMPath
	Waiting
	Idempotent
}

type listVMs struct {
	State  []string `query:"state,explode" doc:"Only VMs in this state; may be repeated. Without it the deleted ones are left out."`
	Label  []string `query:"label,explode" doc:"Only VMs with this label, as key=value; may be repeated."`
	Name   string   `query:"name" doc:"Only VMs with this in their name."`
	Limit  int      `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string   `query:"cursor" doc:"next_cursor of the page before."`
}

// page is a piece of a list.
type page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Send it as cursor for what follows."`
}

type executeVM struct {
	VMPath
	Waiting
	Idempotent
	RawBody []byte
	Body    executeBody
}

// executeBody is an exec and how urgent it is.
type executeBody struct {
	types.ExecSpec
	Priority types.Priority `json:"priority,omitempty" doc:"critical, high, default or low."`
}

type body[T any] struct{ Body T }

func (g *Gateway) registerVMs() {
	post := func(id, path, summary string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: http.MethodPost, Path: path, Summary: summary, Tags: []string{"VMs"}, DefaultStatus: http.StatusAccepted, MaxBodyBytes: maxBody,
		}
	}
	huma.Register(g.api, post("createVM", "/api/v1/vms", "Create a VM"), g.createVM)
	huma.Register(g.api, huma.Operation{OperationID: "listVMs", Method: http.MethodGet, Path: "/api/v1/vms", Summary: "List VMs, newest first", Tags: []string{"VMs"}}, g.listVMs)
	huma.Register(g.api, huma.Operation{OperationID: "getVM", Method: http.MethodGet, Path: "/api/v1/vms/{vm}", Summary: "Get a VM by name or id", Tags: []string{"VMs"}}, g.getVM)
	huma.Register(g.api, huma.Operation{
		OperationID: "deleteVM", Method: http.MethodDelete, Path: "/api/v1/vms/{vm}", Summary: "Delete a VM and all it holds", Tags: []string{"VMs"}, DefaultStatus: http.StatusAccepted,
	}, g.act(types.TaskVMDelete))
	for verb, act := range map[string]struct {
		task    types.TaskType
		summary string
	}{
		"start":  {types.TaskVMStart, "Start a stopped VM"},
		"stop":   {types.TaskVMStop, "Stop a VM and keep its disk"},
		"pause":  {types.TaskVMPause, "Freeze a VM"},
		"resume": {types.TaskVMResume, "Let a paused VM go on"},
	} {
		huma.Register(g.api, post(verb+"VM", "/api/v1/vms/{vm}/"+verb, act.summary), g.act(act.task))
	}
	huma.Register(g.api, post("executeInVM", "/api/v1/vms/{vm}/execute", "Run a command in a VM"), g.execute)
}

func (g *Gateway) createVM(ctx context.Context, in *createVM) (*taskAnswer, error) {
	spec := in.Body
	spec.ApplyDefaults()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if _, err := in.limit(); err != nil {
		return nil, err
	}
	vm := types.VM{ID: newID(), VMSpec: spec}
	task := types.Task{ID: newID(), Type: types.TaskVMCreate, MaxAttempts: maxAttempts}
	task, _, err := g.Store.CreateVM(ctx, vm, task, in.of("create", "", in.RawBody))
	if err != nil {
		return nil, err
	}
	g.Kick()
	return g.answer(ctx, task, in.Waiting)
}

func (g *Gateway) listVMs(ctx context.Context, in *listVMs) (*body[page[types.VM]], error) {
	f := store.VMFilter{Name: in.Name, Limit: in.Limit, Cursor: in.Cursor}
	var bad types.FieldErrors
	for _, s := range in.State {
		if !slices.Contains(types.VMStates(), types.VMState(s)) {
			bad = append(bad, types.InvalidField("state", s, "is no state of a VM", "use one of "+join(types.VMStates())))
		}
		f.States = append(f.States, types.VMState(s))
	}
	for _, l := range in.Label {
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			bad = append(bad, types.InvalidField("label", l, "is no label", "use key=value"))
			continue
		}
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[k] = v
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	items, next, err := g.Store.ListVMs(ctx, f)
	return &body[page[types.VM]]{page[types.VM]{items, next}}, err
}

func join[S ~string](list []S) string {
	text := make([]string, len(list))
	for i, s := range list {
		text[i] = string(s)
	}
	return strings.Join(text, ", ")
}

func (g *Gateway) getVM(ctx context.Context, in *VMPath) (*body[types.VM], error) {
	vm, err := g.Store.GetVM(ctx, in.VM)
	if err != nil {
		return nil, err
	}
	return &body[types.VM]{vm}, nil
}

// act answers the handler of a task that has nothing but its VM.
func (g *Gateway) act(t types.TaskType) func(context.Context, *vmAct) (*taskAnswer, error) {
	return func(ctx context.Context, in *vmAct) (*taskAnswer, error) {
		if _, err := in.limit(); err != nil {
			return nil, err
		}
		vm, err := g.Store.GetVM(ctx, in.VM)
		if err != nil {
			return nil, err
		}
		// Who waits for a VM's end or state waits before all else.
		task, err := g.submit(ctx, types.Task{Type: t, VMID: vm.ID, Priority: types.PriorityHigh}, in.of(string(t), vm.ID, nil))
		if err != nil {
			return nil, err
		}
		return g.answer(ctx, task, in.Waiting)
	}
}

func (g *Gateway) execute(ctx context.Context, in *executeVM) (*taskAnswer, error) {
	spec := in.Body.ExecSpec
	spec.ApplyDefaults()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if _, err := in.limit(); err != nil {
		return nil, err
	}
	vm, err := g.Store.GetVM(ctx, in.VM)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	task := types.Task{Type: types.TaskVMExecute, VMID: vm.ID, Priority: in.Body.Priority, Payload: payload}
	if task, err = g.submit(ctx, task, in.of("execute", vm.ID, in.RawBody)); err != nil {
		return nil, err
	}
	return g.answer(ctx, task, in.Waiting)
}
