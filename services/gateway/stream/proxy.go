package stream

import (
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

// guestPolicy makes a browser treat what a guest serves as a stranger to the
// gateway's own origin (CSP 3, section 6.3.2): its scripts run, but reach
// neither the API nor another VM's pages.
const guestPolicy = "sandbox allow-scripts allow-forms"

const apiPrefix = "/api"

// VM passes a request for something inside a VM (files, stats, tunnels) on to
// the VM's worker.
func (s *Server) VM(w http.ResponseWriter, r *http.Request) {
	s.pass(w, r, "")
}

// Port passes a request on to a web server inside a VM. What comes back is a
// guest's, and is kept from acting as the gateway's own.
func (s *Server) Port(w http.ResponseWriter, r *http.Request) {
	if err := checkPort(r.PathValue("port")); err != nil {
		fail(w, r, err)
		return
	}
	prefix := apiPrefix + "/v1/vms/" + url.PathEscape(r.PathValue("vm")) + "/ports/" + r.PathValue("port")
	s.pass(w, r, prefix)
}

// Tunnel passes a WebSocket on to a TCP port inside a VM.
func (s *Server) Tunnel(w http.ResponseWriter, r *http.Request) {
	if err := checkPort(r.PathValue("port")); err != nil {
		fail(w, r, err)
		return
	}
	if !upgrades(w, r) {
		return
	}
	s.pass(w, r, "")
}

func checkPort(v string) error {
	if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
		return types.InvalidField("port", v, "is no port", "use 1 to 65535")
	}
	return nil
}

// guard strips a guest's answer of what would reach beyond its own prefix.
func guard(h http.Header, prefix string) {
	h.Add("Content-Security-Policy", guestPolicy) // several policies all hold
	for _, name := range []string{"Service-Worker-Allowed", "Clear-Site-Data", "Strict-Transport-Security"} {
		h.Del(name)
	}
	cookies := h.Values("Set-Cookie")
	h.Del("Set-Cookie")
	for _, line := range cookies {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			continue
		}
		c.Domain = ""
		if !strings.HasPrefix(c.Path+"/", prefix+"/") {
			c.Path = prefix + "/" + strings.TrimPrefix(c.Path, "/")
		}
		h.Add("Set-Cookie", c.String())
	}
}

// pass finds the VM's worker and hands the request on. A prefix says that a guest
// answers, under this path.
func (s *Server) pass(w http.ResponseWriter, r *http.Request, prefix string) {
	vm, err := s.Store.GetVM(r.Context(), r.PathValue("vm"))
	if err == nil {
		err = mustRun(vm)
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	worker, err := s.Store.GetWorker(r.Context(), vm.WorkerID)
	if err != nil {
		fail(w, r, err)
		return
	}
	base, transport, err := s.workers.reach(worker.Address)
	if err != nil {
		fail(w, r, unreachable(worker.ID, err))
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			s.rewrite(p, base, vm.ID)
			if prefix != "" {
				p.Out.Header.Set("X-Forwarded-Prefix", prefix)
			}
		},
		Transport:     transport,
		FlushInterval: -1,
		ModifyResponse: func(resp *http.Response) error {
			if prefix != "" {
				guard(resp.Header, prefix)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			fail(w, r, unreachable(worker.ID, err))
		},
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	ctx, cancel := s.bound(r.Context())
	defer cancel()
	proxy.ServeHTTP(w, r.WithContext(ctx))
}

// rewrite turns /api/v1/vms/{name}/… into the worker's /v1/vms/{id}/…, escapes
// and query as they are.
func (s *Server) rewrite(p *httputil.ProxyRequest, base *url.URL, vmID string) {
	path := strings.TrimPrefix(p.In.URL.EscapedPath(), apiPrefix)
	parts := strings.SplitN(path, "/", 5) // "", v1, vms, {vm}, the rest
	parts[3] = vmID
	p.Out.URL.RawPath = strings.Join(parts, "/")
	p.Out.URL.Path, _ = url.PathUnescape(p.Out.URL.RawPath) // it was escaped well when it came
	p.Out.URL.Scheme, p.Out.URL.Host = base.Scheme, base.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	p.Out.Host = p.In.Host
	p.SetXForwarded()
	// The client's own credentials are for the gateway, not for a guest.
	p.Out.Header.Set("Authorization", "Bearer "+s.ClusterToken)
}

// mustRun refuses a VM that has nobody inside to answer.
func mustRun(vm types.VM) error {
	if vm.State == types.VMRunning {
		return nil
	}
	remedy := "make a new VM"
	switch vm.State {
	case types.VMPending, types.VMCreating:
		remedy = "wait until it runs: GET /api/v1/vms/" + vm.ID
	case types.VMStopped:
		remedy = "start it: POST /api/v1/vms/" + vm.ID + "/start"
	case types.VMPaused:
		remedy = "resume it: POST /api/v1/vms/" + vm.ID + "/resume"
	}
	return types.Errorf(types.KindConflict, "VM %s is %s", vm.Name, vm.State).WithRemedy("%s", remedy)
}
