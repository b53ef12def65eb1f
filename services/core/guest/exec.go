package guest

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/aetherium/aetherium/libs/agentapi"
	"github.com/aetherium/aetherium/libs/types"
)

// Start runs a command under an id of the caller's choice, or answers the one
// that has the id already.
func (c *Client) Start(ctx context.Context, execID string, spec types.ExecSpec) (*agentapi.ExecStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	stdin := spec.StdinBase64
	if spec.Stdin != "" {
		stdin = []byte(spec.Stdin)
	}
	r := &agentapi.StartRequest{
		ExecId: execID, Command: spec.Command, Args: spec.Args, Env: spec.Env, Cwd: spec.Cwd, User: spec.User,
		Stdin: stdin, StdinOpen: spec.StdinOpen, OutputLimitBytes: spec.OutputLimit,
	}
	if spec.TTY {
		r.Tty = terminal(spec.Rows, spec.Cols)
	}
	if spec.Timeout > 0 {
		r.Timeout = durationpb.New(time.Duration(spec.Timeout))
	}
	answer, err := c.processes.Start(ctx, connect.NewRequest(r))
	if err != nil {
		return nil, typed("start the command", err)
	}
	return answer.Msg.GetExec(), nil
}

func terminal(rows, cols int) *agentapi.Terminal {
	const defaultRows, defaultCols = 24, 80
	if rows <= 0 || cols <= 0 {
		rows, cols = defaultRows, defaultCols
	}
	return &agentapi.Terminal{Rows: uint32(rows), Cols: uint32(cols)}
}

// Get answers an exec's status; KindNotFound if the agent does not know it.
func (c *Client) Get(ctx context.Context, execID string) (*agentapi.ExecStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r, err := c.processes.Get(ctx, connect.NewRequest(&agentapi.GetRequest{ExecId: execID}))
	if err != nil {
		return nil, typed("look at the command", err)
	}
	return r.Msg.GetExec(), nil
}

// List answers every exec that the agent knows.
func (c *Client) List(ctx context.Context) ([]*agentapi.ExecStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r, err := c.processes.List(ctx, connect.NewRequest(&agentapi.ListRequest{}))
	if err != nil {
		return nil, typed("list the guest's commands", err)
	}
	return r.Msg.GetExecs(), nil
}

// FollowEvent is a piece of output, or says that some was cut.
type FollowEvent struct {
	Chunk *types.OutputChunk
	Gap   *Gap
}

// Gap is output that is not kept, in both streams together.
type Gap struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Follow hands output from an offset on to fn, and answers the exit when the
// command has ended. With attach, the agent waits for this reader where it would
// else cut output. An error of fn ends it and is answered.
func (c *Client) Follow(ctx context.Context, execID string, offset int64, attach bool, fn func(FollowEvent) error) (*agentapi.ExecStatus, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.processes.Follow(ctx, connect.NewRequest(&agentapi.FollowRequest{ExecId: execID, Offset: offset, Attach: attach}))
	if err != nil {
		return nil, typed("follow the command", err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		switch e := stream.Msg().GetEvent().(type) {
		case *agentapi.FollowResponse_Output:
			chunk, err := chunkOf(e.Output, offset)
			if err != nil {
				return nil, err
			}
			offset = chunk.End()
			if err := fn(FollowEvent{Chunk: chunk}); err != nil {
				return nil, err
			}
		case *agentapi.FollowResponse_Gap:
			offset = e.Gap.GetOffset() + e.Gap.GetLength()
			if err := fn(FollowEvent{Gap: &Gap{Offset: e.Gap.GetOffset(), Length: e.Gap.GetLength()}}); err != nil {
				return nil, err
			}
		case *agentapi.FollowResponse_Exit:
			return e.Exit, nil
		}
	}
	if err := stream.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, typed("follow the command", err)
	}
	return nil, types.Errorf(types.KindUnavailable, "the guest's agent broke off")
}

// chunkOf checks what a guest says of its output.
func chunkOf(o *agentapi.Output, expected int64) (*types.OutputChunk, error) {
	if o.GetOffset() != expected || o.GetStreamOffset() < 0 || o.GetStreamOffset() > o.GetOffset() || len(o.GetData()) > agentapi.MaxChunk {
		return nil, types.Errorf(types.KindInternal, "the guest's agent sends output out of place: %d bytes at %d, not %d", len(o.GetData()), o.GetOffset(), expected)
	}
	stream := types.Stdout
	if o.GetStream() == agentapi.Stream_STREAM_STDERR {
		stream = types.Stderr
	}
	return &types.OutputChunk{
		Offset: o.GetOffset(), Stream: stream, StreamOffset: o.GetStreamOffset(), At: o.GetAt().AsTime().Truncate(time.Microsecond), Data: o.GetData(),
	}, nil
}

// WriteStdin feeds a command from an offset, and answers how much it has by then.
// It waits while the command does not read, until ctx ends.
func (c *Client) WriteStdin(ctx context.Context, execID string, offset int64, data []byte, eof bool) (int64, error) {
	for {
		n := min(len(data), agentapi.MaxChunk)
		last := n == len(data)
		r, err := c.processes.WriteStdin(ctx, connect.NewRequest(&agentapi.WriteStdinRequest{
			ExecId: execID, Offset: offset, Data: data[:n], Eof: eof && last,
		}))
		if err != nil {
			return offset, typed("write to the command", err)
		}
		offset, data = offset+int64(n), data[n:]
		if last {
			return r.Msg.GetOffset(), nil
		}
	}
}

// Resize changes the size of a command's terminal.
func (c *Client) Resize(ctx context.Context, execID string, rows, cols int) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, err := c.processes.Resize(ctx, connect.NewRequest(&agentapi.ResizeRequest{ExecId: execID, Tty: terminal(rows, cols)}))
	return typed("resize the terminal", err)
}

// Signal sends a signal to a command's process group, or to its process alone.
// What has ended takes it without an error.
func (c *Client) Signal(ctx context.Context, execID string, sig syscall.Signal, processOnly bool) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, err := c.processes.Signal(ctx, connect.NewRequest(&agentapi.SignalRequest{ExecId: execID, Signal: int32(sig), ProcessOnly: processOnly}))
	return typed("signal the command", err)
}

// Forget has the agent free an ended command's output.
func (c *Client) Forget(ctx context.Context, execID string) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, err := c.processes.Forget(ctx, connect.NewRequest(&agentapi.ForgetRequest{ExecId: execID}))
	return typed("forget the command", err)
}

// ResultOf is how a command ended, without its output.
func ResultOf(st *agentapi.ExecStatus) types.ExecResult {
	r := types.ExecResult{
		ExitCode: int(st.GetExitCode()), Reason: clean(st.GetMessage()),
		StdoutBytes: st.GetStdoutBytes(), StderrBytes: st.GetStderrBytes(),
		OutputTruncated: st.GetOutputTruncated(), OutputLeftOpen: st.GetOutputLeftOpen(),
		StartedAt: st.GetStartedAt().AsTime(), EndedAt: st.GetEndedAt().AsTime(),
	}
	if s := st.GetSignal(); s > 0 {
		r.Signal = unix.SignalName(syscall.Signal(s))
	}
	return r
}

// ErrorOf is why a command was ended by other than itself; nil if it was not. A
// command that could not be found or executed is a result, not an error.
func ErrorOf(st *agentapi.ExecStatus) *types.Error {
	why := clean(st.GetMessage())
	switch st.GetEndReason() {
	case agentapi.EndReason_END_REASON_TIMEOUT:
		return types.Errorf(types.KindTimeout, "%s", why).WithRemedy("give it a longer timeout")
	case agentapi.EndReason_END_REASON_OUT_OF_MEMORY:
		return types.Errorf(types.KindOutOfMemory, "%s", why).WithRemedy("give the VM more memory_mib")
	case agentapi.EndReason_END_REASON_TOO_MANY_PROCESSES:
		return types.Errorf(types.KindExhausted, "%s", why).WithRemedy("start fewer processes at once")
	case agentapi.EndReason_END_REASON_SHUTDOWN:
		return types.Errorf(types.KindInterrupted, "%s", why)
	}
	return nil
}
