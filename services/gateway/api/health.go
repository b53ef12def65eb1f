package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/aetherium/aetherium/libs/types"
)

// health is what a gateway says of itself.
type health struct {
	Status  string `json:"status" doc:"ok."`
	Version string `json:"version"`
}

func (g *Gateway) registerHealth() {
	for prefix, hidden := range map[string]bool{"": true, "/api/v1": false} {
		id := func(name string) string {
			if hidden {
				return name + "Root"
			}
			return name
		}
		huma.Register(g.api, huma.Operation{
			OperationID: id("healthz"), Method: http.MethodGet, Path: prefix + "/healthz", Summary: "Whether the process lives", Tags: []string{"Service"},
		}, func(context.Context, *struct{}) (*body[health], error) {
			return &body[health]{health{"ok", g.Version}}, nil
		})
		huma.Register(g.api, huma.Operation{
			OperationID: id("readyz"), Method: http.MethodGet, Path: prefix + "/readyz", Summary: "Whether it can work: store and queue answer", Tags: []string{"Service"},
		}, func(ctx context.Context, _ *struct{}) (*body[health], error) {
			if err := g.ready(ctx); err != nil {
				return nil, err
			}
			return &body[health]{health{"ok", g.Version}}, nil
		})
	}
}

func (g *Gateway) ready(ctx context.Context) error {
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := g.Store.Ping(ctx); err != nil {
		return types.Errorf(types.KindUnavailable, "the store does not answer: %w", err).WithRemedy("check the database")
	}
	if err := g.Queue.Ping(ctx); err != nil {
		return types.Errorf(types.KindUnavailable, "the queue does not answer: %w", err).WithRemedy("check Redis; tasks are kept and go on when it is back")
	}
	return nil
}
