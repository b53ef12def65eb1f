package agent

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// beatEvery is how often a follower hears that its exec lives.
const beatEvery = 5 * time.Second

// processes implements the ProcessService.
type processes Agent

func (s *processes) find(id string) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.execs[id]; p != nil {
		return p, nil
	}
	return nil, fail(connect.CodeNotFound, "there is no exec %q", id)
}

// Start implements the ProcessService.
func (s *processes) Start(_ context.Context, r *connect.Request[agentapi.StartRequest]) (*connect.Response[agentapi.StartResponse], error) {
	p, err := (*Agent)(s).start(r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&agentapi.StartResponse{Exec: p.snapshot()}), nil
}

// Get implements the ProcessService.
func (s *processes) Get(_ context.Context, r *connect.Request[agentapi.GetRequest]) (*connect.Response[agentapi.GetResponse], error) {
	p, err := s.find(r.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&agentapi.GetResponse{Exec: p.snapshot()}), nil
}

// List implements the ProcessService.
func (s *processes) List(context.Context, *connect.Request[agentapi.ListRequest]) (*connect.Response[agentapi.ListResponse], error) {
	answer := &agentapi.ListResponse{}
	for _, p := range (*Agent)(s).all() {
		answer.Execs = append(answer.Execs, p.snapshot())
	}
	return connect.NewResponse(answer), nil
}

func (a *Agent) all() []*process {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]*process, 0, len(a.execs))
	for _, p := range a.execs {
		list = append(list, p)
	}
	return list
}

// running lists the execs that have not ended.
func (a *Agent) running() []*process {
	return slices.DeleteFunc(a.all(), func(p *process) bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	})
}

// Follow implements the ProcessService.
func (s *processes) Follow(ctx context.Context, r *connect.Request[agentapi.FollowRequest], out *connect.ServerStream[agentapi.FollowResponse]) error {
	p, err := s.find(r.Msg.GetExecId())
	if err != nil {
		return err
	}
	f := p.spool.join(max(r.Msg.GetOffset(), 0), r.Msg.GetAttach())
	defer p.spool.leave(f)
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		data, gap, more, end := p.spool.next(f)
		var event *agentapi.FollowResponse
		next := f.offset
		switch {
		case data != nil:
			event = &agentapi.FollowResponse{Event: &agentapi.FollowResponse_Output{Output: data}}
			next += int64(len(data.GetData()))
		case gap > 0:
			event = &agentapi.FollowResponse{Event: &agentapi.FollowResponse_Gap{Gap: &agentapi.Gap{Offset: f.offset, Length: gap}}}
			next += gap
		case end:
			select {
			case <-p.ended:
			case <-ctx.Done():
				return ctx.Err()
			}
			return out.Send(&agentapi.FollowResponse{Event: &agentapi.FollowResponse_Exit{Exit: p.snapshot()}})
		default:
			select {
			case <-more:
				continue
			case <-beat.C:
				event = &agentapi.FollowResponse{Event: &agentapi.FollowResponse_Beat{Beat: &agentapi.Beat{}}}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := out.Send(event); err != nil {
			return err
		}
		p.spool.taken(f, next)
	}
}

// output is a record as it is sent, without its first bytes.
func output(r *record, skip int64) *agentapi.Output {
	return &agentapi.Output{
		Offset: r.offset + skip, Stream: r.stream, StreamOffset: r.streamOffset + skip,
		At: timestamppb.New(r.at), Data: append([]byte(nil), r.data[skip:]...),
	}
}

// WriteStdin implements the ProcessService.
func (s *processes) WriteStdin(_ context.Context, r *connect.Request[agentapi.WriteStdinRequest]) (*connect.Response[agentapi.WriteStdinResponse], error) {
	p, err := s.find(r.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	in := p.stdin
	p.mu.Unlock()
	if in == nil {
		return nil, fail(connect.CodeFailedPrecondition, "exec %s has no standard input to write to", p.id)
	}
	n, err := in.write(r.Msg.GetOffset(), r.Msg.GetData(), r.Msg.GetEof())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&agentapi.WriteStdinResponse{Offset: n}), nil
}

// Resize implements the ProcessService.
func (s *processes) Resize(_ context.Context, r *connect.Request[agentapi.ResizeRequest]) (*connect.Response[agentapi.ResizeResponse], error) {
	p, err := s.find(r.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty == nil {
		return nil, fail(connect.CodeFailedPrecondition, "exec %s has no terminal", p.id)
	}
	if err := setSize(p.tty, r.Msg.GetTty()); err != nil && !errors.Is(err, syscall.EBADF) {
		return nil, failOS(err)
	}
	return connect.NewResponse(&agentapi.ResizeResponse{}), nil
}

// Signal implements the ProcessService. A signal to what has ended is no error.
func (s *processes) Signal(_ context.Context, r *connect.Request[agentapi.SignalRequest]) (*connect.Response[agentapi.SignalResponse], error) {
	p, err := s.find(r.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	sig := syscall.Signal(r.Msg.GetSignal())
	if sig <= 0 || sig > 64 {
		return nil, fail(connect.CodeInvalidArgument, "there is no signal %d", sig)
	}
	p.mu.Lock()
	pid := p.pid
	p.mu.Unlock()
	if pid == 0 {
		return connect.NewResponse(&agentapi.SignalResponse{}), nil
	}
	err = s.reaper.kill(pid, !r.Msg.GetProcessOnly(), sig)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return nil, failOS(err)
	}
	if err == nil && sig == syscall.SIGKILL && !r.Msg.GetProcessOnly() {
		killSession(pid, sig)
	}
	return connect.NewResponse(&agentapi.SignalResponse{}), nil
}

// Forget implements the ProcessService.
func (s *processes) Forget(_ context.Context, r *connect.Request[agentapi.ForgetRequest]) (*connect.Response[agentapi.ForgetResponse], error) {
	s.mu.Lock()
	p := s.execs[r.Msg.GetExecId()]
	s.mu.Unlock()
	if p == nil {
		return connect.NewResponse(&agentapi.ForgetResponse{}), nil
	}
	select {
	case <-p.ended:
	default:
		return nil, fail(connect.CodeFailedPrecondition, "exec %s still runs", p.id)
	}
	s.mu.Lock()
	delete(s.execs, p.id)
	s.mu.Unlock()
	p.spool.free()
	return connect.NewResponse(&agentapi.ForgetResponse{}), nil
}
