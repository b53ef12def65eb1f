package stream

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

// workers keeps connections to the workers' direct faces.
type workers struct {
	mu    sync.Mutex
	conns map[string]*http.Transport // by address
}

func newWorkers() *workers { return &workers{conns: map[string]*http.Transport{}} }

func (ws *workers) close() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, t := range ws.conns {
		t.CloseIdleConnections()
	}
}

// reach answers how to send requests to a worker's address: the base URL and the
// transport. An address is http://host:port, https://host:port or
// unix:///path/of/socket.
func (ws *workers) reach(address string) (*url.URL, *http.Transport, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	socket := ""
	if base.Scheme == "unix" {
		socket = base.Path
		base = &url.URL{Scheme: "http", Host: "worker"}
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	t := ws.conns[address]
	if t == nil {
		t = transport(socket)
		ws.conns[address] = t
	}
	return base, t, nil
}

func transport(socket string) *http.Transport {
	dialer := &net.Dialer{Timeout: dialLimit, KeepAlive: 15 * time.Second}
	return &http.Transport{
		// Workers are addressed directly; a proxy from the environment is for the
		// outside.
		Proxy: nil,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if socket != "" {
				return dialer.DialContext(ctx, "unix", socket)
			}
			return dialer.DialContext(ctx, network, addr)
		},
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: dialLimit,
		// What guests serve is passed on as it is.
		DisableCompression: true,
	}
}

// dialTask attaches to a running command at its worker.
func (s *Server) dialTask(ctx context.Context, task types.Task, offset int64) (*websocket.Conn, error) {
	worker, err := s.Store.GetWorker(ctx, task.WorkerID)
	if err != nil {
		return nil, err
	}
	base, transport, err := s.workers.reach(worker.Address)
	if err != nil {
		return nil, unreachable(worker.ID, err)
	}
	target := base.JoinPath("v1", "tasks", task.ID, "attach")
	target.RawQuery = url.Values{"offset": {strconv.FormatInt(offset, 10)}}.Encode()
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: transport},
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + s.ClusterToken}},
		Subprotocols: []string{Protocol},
	})
	if err != nil {
		if resp != nil && strings.HasPrefix(resp.Header.Get("Content-Type"), problem.ContentType) {
			return nil, problem.Read(resp)
		}
		return nil, unreachable(worker.ID, err)
	}
	conn.SetReadLimit(maxWorkerFrame)
	return conn, nil
}

// unreachable is the error for a worker that does not answer.
func unreachable(workerID string, err error) error {
	return types.Errorf(types.KindUnavailable, "worker %s does not answer: %w", workerID, err).
		WithRemedy("look at GET /api/v1/workers/%s; see that the worker runs and that the gateway can reach its address", workerID)
}
