// Package agent is the guest's side of the agent protocol: it runs processes and
// spools their output, serves files, carries TCP, and keeps house where it is the
// first process of its machine. It knows nothing of VMs, tasks or users of the
// platform, and trusts whoever can reach its listener.
package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/aetherium/aetherium/libs/agentapi"
	"github.com/aetherium/aetherium/libs/agentapi/agentapiconnect"
)

// Agent serves one machine.
type Agent struct {
	version string
	started time.Time
	bootID  string
	reaper  *reaper
	reap    bool
	budget  *budget

	mu    sync.Mutex
	hello *agentapi.HandshakeRequest // the first; nil, which reads as empty, until it came
	execs map[string]*process
	watch chan struct{} // closed and made anew whenever an exec starts
}

// New makes the agent of this process's machine. If reap is set, the whole
// process is the agent's: it collects every child that ends, whoever's it was.
func New(version string, reap bool) *Agent {
	return &Agent{
		version: version,
		started: time.Now(),
		bootID:  uuid.NewString(),
		reaper:  newReaper(),
		reap:    reap,
		budget:  &budget{most: spoolBudget()},
		execs:   make(map[string]*process),
		watch:   make(chan struct{}),
	}
}

// Handler serves the protocol's four services.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	opts := connect.WithReadMaxBytes(agentapi.MaxMessage)
	mux.Handle(agentapiconnect.NewAgentServiceHandler(a, opts))
	mux.Handle(agentapiconnect.NewProcessServiceHandler((*processes)(a), opts))
	mux.Handle(agentapiconnect.NewFileServiceHandler(files{}, opts))
	mux.Handle(agentapiconnect.NewPortServiceHandler(ports{}, opts))
	return mux
}

// Serve answers on a listener, HTTP/2 without TLS, until ctx ends; it then ends
// every exec.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	var h2c http.Protocols
	h2c.SetHTTP1(true)
	h2c.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           a.Handler(),
		Protocols:         &h2c,
		ReadHeaderTimeout: 10 * time.Second,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var background sync.WaitGroup
	if a.reap {
		background.Go(func() { a.reaper.run(ctx) })
	}
	background.Go(func() { a.watchLimits(ctx) })
	background.Go(func() {
		<-ctx.Done()
		_ = server.Close()
	})
	err := server.Serve(l)
	cancel()
	a.endAll(0)
	background.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Handshake implements the AgentService.
func (a *Agent) Handshake(_ context.Context, r *connect.Request[agentapi.HandshakeRequest]) (*connect.Response[agentapi.HandshakeResponse], error) {
	if v := r.Msg.GetProtocolVersion(); v != agentapi.ProtocolVersion {
		return nil, fail(connect.CodeUnimplemented, "the host speaks version %d of the agent protocol, this guest %d", v, agentapi.ProtocolVersion)
	}
	a.mu.Lock()
	if a.hello == nil { // later ones are of hosts that come again, and know less
		a.hello = r.Msg
		if name := r.Msg.GetHostname(); name != "" {
			setHostname(name)
		}
	}
	a.mu.Unlock()
	return connect.NewResponse(&agentapi.HandshakeResponse{
		ProtocolVersion: agentapi.ProtocolVersion,
		AgentVersion:    a.version,
		BootId:          a.bootID,
		StartedAt:       timestamppb.New(a.started),
		Architecture:    runtime.GOARCH,
	}), nil
}

// fail makes the error of a call.
func fail(code connect.Code, format string, args ...any) *connect.Error {
	return connect.NewError(code, errorf(format, args...))
}

// failOS gives an operating system's error its code.
func failOS(err error) *connect.Error {
	var known *connect.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, os.ErrNotExist):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, os.ErrExist):
		return connect.NewError(connect.CodeAlreadyExists, err)
	case errors.Is(err, os.ErrPermission):
		return connect.NewError(connect.CodePermissionDenied, err)
	case isWrongUse(err):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	case isFull(err):
		return connect.NewError(connect.CodeResourceExhausted, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}
