package clienttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

// Server answers the API. Its fields are to be set before it is called.
type Server struct {
	URL      string
	PageSize int // of lists; 100 if zero

	// BreakOutput breaks an attached connection, or a stream of output, once each
	// of these offsets has been sent.
	BreakOutput []int64
	// BreakStdin breaks an attached connection once so many bytes of standard
	// input have been read off it; the last message before is lost.
	BreakStdin []int64

	http *httptest.Server
	mux  *http.ServeMux

	mu       sync.Mutex
	commands map[string]Command // by ExecSpec.Command
	vms      []*types.VM
	execs    map[string]*exec
	requests []*http.Request
	ids      int
	running  sync.WaitGroup
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{commands: map[string]Command{}, execs: map[string]*exec{}, mux: http.NewServeMux()}
	s.handle("GET /api/v1/vms", s.listVMs)
	s.handle("POST /api/v1/vms", s.createVM)
	s.handle("GET /api/v1/vms/{vm}", s.getVM)
	s.handle("DELETE /api/v1/vms/{vm}", s.act)
	s.handle("POST /api/v1/vms/{vm}/{verb}", s.act)
	s.handle("POST /api/v1/vms/{vm}/execute", s.execute)
	s.handle("GET /api/v1/tasks", s.listTasks)
	s.handle("GET /api/v1/tasks/{task}", s.getTask)
	s.handle("POST /api/v1/tasks/{task}/cancel", s.cancelTask)
	s.handle("GET /api/v1/tasks/{task}/output", s.output)
	s.handle("GET /api/v1/tasks/{task}/attach", s.attach)
	s.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Clone(r.Context()))
		s.mu.Unlock()
		s.mux.ServeHTTP(w, r)
	}))
	s.URL = s.http.URL
	t.Cleanup(func() {
		s.mu.Lock()
		for _, e := range s.execs {
			e.cancel()
		}
		s.mu.Unlock()
		s.http.CloseClientConnections()
		s.http.Close()
		s.running.Wait()
	})
	return s
}

// Handle adds an answer, or replaces one by a more specific pattern.
func (s *Server) Handle(pattern string, h http.HandlerFunc) { s.mux.HandleFunc(pattern, h) }

// Command has VMs know a command.
func (s *Server) Command(name string, c Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands[name] = c
}

// handle adds an answer that is JSON or a problem.
func (s *Server) handle(pattern string, h func(http.ResponseWriter, *http.Request) (any, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		answer, err := h(w, r)
		switch {
		case err != nil:
			problem.Write(w, r, err)
		case answer != nil:
			Answer(w, answer)
		}
	})
}

// Answer writes JSON.
func Answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}

// Requests answers what the server was asked so far.
func (s *Server) Requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request{}, s.requests...)
}

// id answers a new id; the lock is held.
func (s *Server) id() string {
	s.ids++
	return fmt.Sprintf("00000000-0000-7000-8000-%012d", s.ids)
}

func (s *Server) listVMs(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, at := s.PageSize, 0
	if size == 0 {
		size = 100
	}
	if c := r.URL.Query().Get("cursor"); c != "" {
		at, _ = strconv.Atoi(c)
	}
	page := map[string]any{"items": s.vms[at:min(at+size, len(s.vms))]}
	if at+size < len(s.vms) {
		page["next_cursor"] = strconv.Itoa(at + size)
	}
	return page, nil
}

// AddVM adds a running VM.
func (s *Server) AddVM(name string) types.VM {
	s.mu.Lock()
	defer s.mu.Unlock()
	vm := &types.VM{ID: s.id(), VMSpec: types.VMSpec{Name: name}, State: types.VMRunning, Version: 1, CreatedAt: time.Now().UTC()}
	vm.ApplyDefaults()
	s.vms = append(s.vms, vm)
	return *vm
}

func (s *Server) find(idOrName string) (*types.VM, error) {
	for _, vm := range s.vms {
		if vm.Name == idOrName || vm.ID == idOrName {
			return vm, nil
		}
	}
	return nil, types.Errorf(types.KindNotFound, "there is no VM %q", idOrName).WithRemedy("list the VMs for their names and ids")
}

func (s *Server) createVM(_ http.ResponseWriter, r *http.Request) (any, error) {
	var spec types.VMSpec
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil {
		return nil, types.Errorf(types.KindInvalid, "the body is no VM: %v", err)
	}
	spec.ApplyDefaults()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	_, err := s.find(spec.Name)
	s.mu.Unlock()
	if err == nil {
		return nil, &types.Error{Kind: types.KindConflict, Field: "name", Value: spec.Name, Message: "is taken"}
	}
	vm := s.AddVM(spec.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, err := s.find(vm.ID)
	if err == nil {
		kept.VMSpec = spec
	}
	return s.done(types.TaskVMCreate, vm.ID), err
}

func (s *Server) getVM(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	vm, err := s.find(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	return *vm, nil
}

// done is a task that has ended well; the lock is held.
func (s *Server) done(t types.TaskType, vm string) types.Task {
	now := time.Now().UTC()
	return types.Task{ID: s.id(), Type: t, State: types.TaskSucceeded, VMID: vm, CreatedAt: now, EndedAt: &now}
}

func (s *Server) act(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	vm, err := s.find(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	verb := r.PathValue("verb")
	switch verb {
	case "":
		verb = "delete"
		for i := range s.vms {
			if s.vms[i] == vm {
				s.vms = append(s.vms[:i:i], s.vms[i+1:]...)
				break
			}
		}
	case "stop":
		vm.State = types.VMStopped
	case "pause":
		vm.State = types.VMPaused
	default:
		vm.State = types.VMRunning
	}
	return s.done(types.TaskType("vm:"+verb), vm.ID), nil
}
