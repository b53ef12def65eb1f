package api

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/gateway/stream"
)

// guard refuses what a web page of a stranger may send through the browser of
// someone who can reach this gateway. Programs that are no browsers send none of
// what it looks at.
func (g *Gateway) guard(r *http.Request) error {
	if g.Local && !g.knownHost(r.Host) {
		return types.Errorf(types.KindForbidden, "this gateway is not called %q", r.Host).
			WithRemedy("use localhost or 127.0.0.1, or allow the name with --allowed-hosts")
	}
	if g.crossOrigin(r) && !readsGuest(r) && !navigates(r) {
		return types.Errorf(types.KindForbidden, "a page of another origin may not use this gateway").
			WithRemedy("allow its origin with --allowed-origins; for a web application inside a VM, give it an origin of its own with aether-cli forward")
	}
	return nil
}

// knownHost accepts loopback names. A rebinding attack always comes under a name
// of the attacker's.
func (g *Gateway) knownHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(g.Hosts, host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// crossOrigin reports a browser's request for a page of another origin (Fetch
// Metadata; RFC 6454 for what does not send it).
func (g *Gateway) crossOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin != "" && slices.Contains(g.Origins, origin) {
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
		if origin == "" {
			return false
		}
		u, err := url.Parse(origin)
		return err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host)
	default:
		return true
	}
}

// navigates reports that a person followed a link or typed an address: a page
// cannot read the answer.
func navigates(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		r.Header.Get("Sec-Fetch-Dest") == "document"
}

// readsGuest reports what the pages of a guest need for themselves: their scripts,
// styles and images. A guest's page counts as a stranger, as it is sandboxed.
func readsGuest(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || stream.IsUpgrade(r) {
		return false
	}
	parts := strings.SplitN(r.URL.Path, "/", 8) // "", api, v1, vms, {vm}, ports, {port}, the rest
	return len(parts) == 8 && parts[1] == "api" && parts[3] == "vms" && parts[5] == "ports"
}
