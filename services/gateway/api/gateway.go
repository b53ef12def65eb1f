package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/queue"
	"github.com/aetherium/aetherium/services/core/store"
	"github.com/aetherium/aetherium/services/gateway/stream"
)

const (
	// maxBody bounds JSON bodies, in bytes.
	maxBody = 1 << 20
	// maxWait bounds ?wait=.
	maxWait = 10 * time.Minute
	// maxAttempts is how often a task is tried before it fails for good.
	maxAttempts = 5
)

// Config is what a Gateway needs.
type Config struct {
	Store *store.Store
	Queue *queue.Queue
	// Kick tells the dispatcher that there is something to place. It must not
	// block.
	Kick func()
	// ClusterToken is what workers know gateways by.
	ClusterToken string
	Version      string // of this build, for the OpenAPI document
	// Local says that the gateway listens on a loopback address and asks nobody
	// who they are. Then requests must name it by a loopback name or by one of
	// Hosts, so that no web page reaches it by a name of its own (DNS rebinding).
	Local bool
	Hosts []string // further names of this gateway, without port
	// Origins are web origins, as "https://dash.example.org", whose pages may use
	// the API beside those that the gateway serves.
	Origins []string
	Log     *slog.Logger
}

// Gateway is the REST surface as an http.Handler.
type Gateway struct {
	Config
	hub     *stream.Hub
	streams *stream.Server
	api     huma.API
	routes  *routes
	handler http.Handler
	docs    *docs
}

// New makes a Gateway. Run must run for as long as it serves.
func New(c Config) *Gateway {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Kick == nil {
		c.Kick = func() {}
	}
	g := &Gateway{Config: c, hub: stream.NewHub(c.Queue, c.Log), routes: newRoutes()}
	g.streams = stream.New(stream.Config{
		Store: c.Store, Hub: g.hub, ClusterToken: c.ClusterToken, Log: c.Log,
		Submit: func(ctx context.Context, t types.Task) (types.Task, error) {
			return g.submit(ctx, t, store.Idempotency{})
		},
	})
	g.api = humago.New(g.routes, humaConfig(c.Version))
	g.registerVMs()
	g.registerTasks()
	g.registerFleet()
	g.registerHealth()
	g.registerStreams()
	g.registerDocs()
	g.handler = g.wrap(g.routes)
	return g
}

// Run keeps the gateway's streams and waiting clients awake until ctx ends; then
// it ends them.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.streams.Close()
	return g.hub.Run(ctx)
}

// Notify wakes whoever waits for these events without the way through the queue.
func (g *Gateway) Notify(events []types.Event) { g.hub.Notify(events) }

// ServeHTTP answers a request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }
