// Package guest is the host's side of the agent protocol: it dials a VM's agent,
// follows execs, moves files and carries TCP. It treats the guest as hostile:
// messages are limited, calls have deadlines, text is made clean, and nothing
// that a guest says names anything of the host.
package guest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/aetherium/aetherium/libs/agentapi"
	"github.com/aetherium/aetherium/libs/agentapi/agentapiconnect"
	"github.com/aetherium/aetherium/libs/types"
)

// Dialer opens a stream to the agent.
type Dialer func(ctx context.Context) (net.Conn, error)

// callLimit bounds every call that does not stream.
const callLimit = 30 * time.Second

// Client speaks to one VM's agent. It dials when it must and again when the
// connection broke; its methods may be called from many goroutines.
type Client struct {
	transport *http2.Transport
	agent     agentapiconnect.AgentServiceClient
	processes agentapiconnect.ProcessServiceClient
	files     agentapiconnect.FileServiceClient
	ports     agentapiconnect.PortServiceClient
}

// New makes a client; nothing is dialed yet.
func New(dial Dialer) *Client {
	t := &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
			return dial(ctx)
		},
		ReadIdleTimeout:  15 * time.Second, // a guest that hangs is noticed
		PingTimeout:      15 * time.Second,
		WriteByteTimeout: 30 * time.Second,
	}
	hc := &http.Client{Transport: t}
	const base = "http://guest"
	limit := connect.WithReadMaxBytes(agentapi.MaxMessage)
	return &Client{
		transport: t,
		agent:     agentapiconnect.NewAgentServiceClient(hc, base, limit, connect.WithGRPC()),
		processes: agentapiconnect.NewProcessServiceClient(hc, base, limit, connect.WithGRPC()),
		files:     agentapiconnect.NewFileServiceClient(hc, base, limit, connect.WithGRPC()),
		ports:     agentapiconnect.NewPortServiceClient(hc, base, limit, connect.WithGRPC()),
	}
}

// Close closes the connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Hello is what an agent is told of its VM.
type Hello struct {
	Hostname         string
	Env              map[string]string // of every exec: the image's and the VM's
	Cwd              string            // of execs that name none
	MemoryLimitBytes int64             // the agent ends the largest exec past it; 0: none
	ProcessLimit     int               // likewise
}

// Info is what an agent says of itself.
type Info struct {
	Version      string
	BootID       string // new with every start of the agent
	StartedAt    time.Time
	Architecture string
}

// Handshake tells the agent who it is, and checks that both speak the same
// version of the protocol: KindUnsupported if not.
func (c *Client) Handshake(ctx context.Context, h Hello) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r, err := c.agent.Handshake(ctx, connect.NewRequest(&agentapi.HandshakeRequest{
		ProtocolVersion: agentapi.ProtocolVersion, Hostname: h.Hostname, Env: h.Env, Cwd: h.Cwd,
		MemoryLimitBytes: h.MemoryLimitBytes, ProcessLimit: int32(h.ProcessLimit),
	}))
	if err != nil {
		return Info{}, typed("greet the agent", err)
	}
	if v := r.Msg.GetProtocolVersion(); v != agentapi.ProtocolVersion {
		return Info{}, types.Errorf(types.KindUnsupported, "the guest's agent speaks protocol version %d, this worker %d", v, agentapi.ProtocolVersion).
			WithRemedy("delete the VM and create it anew: it gets the worker's own agent")
	}
	return Info{
		Version: clean(r.Msg.GetAgentVersion()), BootID: clean(r.Msg.GetBootId()),
		StartedAt: r.Msg.GetStartedAt().AsTime(), Architecture: clean(r.Msg.GetArchitecture()),
	}, nil
}

// WaitReady is Handshake, tried again until the agent answers or ctx ends.
func (c *Client) WaitReady(ctx context.Context, h Hello) (Info, error) {
	const between = 4 * time.Millisecond
	tick := time.NewTicker(between)
	defer tick.Stop()
	for {
		info, err := c.Handshake(ctx, h)
		if err == nil || types.KindOf(err) == types.KindUnsupported {
			return info, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Info{}, types.Errorf(types.KindUnavailable, "the guest's agent did not answer in time: %v", err)
		}
	}
}

// Stats asks the agent what its machine uses.
func (c *Client) Stats(ctx context.Context) (*agentapi.StatsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r, err := c.agent.Stats(ctx, connect.NewRequest(&agentapi.StatsRequest{}))
	if err != nil {
		return nil, typed("measure the guest", err)
	}
	return r.Msg, nil
}

// SetClock sets the guest's clock, and reports whether the guest lets it be set.
func (c *Client) SetClock(ctx context.Context, now time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	r, err := c.agent.SetClock(ctx, connect.NewRequest(&agentapi.SetClockRequest{Now: timestamppb.New(now)}))
	if err != nil {
		return false, typed("set the guest's clock", err)
	}
	return r.Msg.GetSet(), nil
}

// Shutdown ends the guest's processes, with SIGKILL after grace, and syncs its
// disks; with powerOff, a microVM then goes off.
func (c *Client) Shutdown(ctx context.Context, grace time.Duration, powerOff bool) error {
	ctx, cancel := context.WithTimeout(ctx, grace+callLimit)
	defer cancel()
	_, err := c.agent.Shutdown(ctx, connect.NewRequest(&agentapi.ShutdownRequest{Grace: durationpb.New(grace), PowerOff: powerOff}))
	return typed("shut the guest down", err)
}

// clean bounds a guest's text and makes it valid UTF-8.
func clean(s string) string {
	const most = 1024
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
