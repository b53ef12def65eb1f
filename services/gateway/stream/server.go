package stream

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

// Config is what a Server needs.
type Config struct {
	Store        *store.Store
	Hub          *Hub
	ClusterToken string // what workers know gateways by
	Log          *slog.Logger
	// Submit records a new task, as the API does for any other.
	Submit func(ctx context.Context, task types.Task) (types.Task, error)
	// Origins are the origins beside the gateway's own whose pages may open
	// WebSockets.
	Origins []string
}

// Server answers the streaming operations. Its methods are HTTP handlers that
// read path values {vm}, {task}, {port} and {rest}.
type Server struct {
	Config
	workers *workers
}

// New makes a Server.
func New(c Config) *Server {
	return &Server{Config: c, workers: newWorkers()}
}

// Close lets go of connections to workers.
func (s *Server) Close() { s.workers.close() }

// Await answers a task when it has ended, or as it is when limit has passed or
// the gateway shuts down. A client that has gone is context.Canceled.
func (s *Server) Await(ctx context.Context, id string, limit time.Duration) (types.Task, error) {
	watch := s.Hub.Watch(id, taskEnded)
	defer watch.Close()
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var task types.Task
	err := watch.Until(bounded, 0, func() (bool, error) {
		var err error
		task, err = s.Store.GetTask(ctx, id)
		return task.State.Ended(), err
	})
	if isOver(err) && ctx.Err() == nil && task.ID != "" {
		return task, nil
	}
	return task, err
}

// bound answers a context that ends with the gateway too: a connection that was
// taken over for another protocol does not.
func (s *Server) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.Hub.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

func taskEnded(e types.Event) bool {
	return e.Type == eventTaskState && types.TaskState(e.State).Ended()
}

const eventTaskState = "task.state"

// end closes a stream's handler: what is over needs no word, as the client has
// gone or will come again; anything else is logged, as it cannot be answered any
// more.
func (s *Server) end(r *http.Request, err error) {
	if err == nil || isOver(err) || errors.Is(err, http.ErrHandlerTimeout) || r.Context().Err() != nil {
		return
	}
	s.Log.Debug("stream ended early", "path", r.URL.Path, "error", err)
}

func fail(w http.ResponseWriter, r *http.Request, err error) { problem.Write(w, r, err) }
