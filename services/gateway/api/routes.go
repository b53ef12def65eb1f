package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

// routes is the mux, with a record of what was registered and problems for what
// was not.
type routes struct {
	mux      *http.ServeMux
	patterns []string // "GET /api/v1/vms", or without a method for any
}

func newRoutes() *routes { return &routes{mux: http.NewServeMux()} }

// HandleFunc registers a handler.
func (t *routes) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	t.patterns = append(t.patterns, pattern)
	t.mux.HandleFunc(pattern, handler)
}

// ServeHTTP answers a request, or the problem that nothing does.
func (t *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := t.mux.Handler(r); pattern != "" {
		t.mux.ServeHTTP(w, r)
		return
	}
	allowed := t.allowed(r)
	if len(allowed) == 0 {
		problem.Write(w, r, types.Errorf(types.KindNotFound, "there is nothing at %s", r.URL.Path).
			WithRemedy("GET /api/v1/docs lists what there is"))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	problem.WriteStatus(w, r, http.StatusMethodNotAllowed,
		types.Errorf(types.KindUnsupported, "%s has no method %s", r.URL.Path, r.Method).
			WithRemedy("use %s", strings.Join(allowed, " or ")))
}

// allowed answers the methods that the request's path has.
func (t *routes) allowed(r *http.Request) []string {
	var found []string
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	} {
		probe := *r
		probe.Method = method
		if _, pattern := t.mux.Handler(&probe); pattern != "" {
			found = append(found, method)
		}
	}
	return slices.Clip(found)
}
