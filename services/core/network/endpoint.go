package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
)

// namedDir is where ip-netns(8) keeps its namespaces.
const namedDir = "/run/netns"

// hash is n hexadecimal digits that stand for a text: interfaces have names of 15
// characters at most.
func hash(text string, n int) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:n]
}

// The names of a manager's namespaces and interfaces begin with its bridge's
// hash, so that managers do not meet.
func (m *Manager) nsPrefix() string          { return "aether-" + hash(m.Bridge, 6) + "-" }
func (m *Manager) vethPrefix() string        { return "ae" + hash(m.Bridge, 4) }
func (m *Manager) nsName(id string) string   { return m.nsPrefix() + hash(id, 12) }
func (m *Manager) vethName(id string) string { return m.vethPrefix() + hash(id, 9) }

// Setup gives a VM its network, or finds the one it has.
func (m *Manager) Setup(ctx context.Context, id string, mode types.NetworkMode) (Endpoint, error) {
	name := m.nsName(id)
	ns, err := openNS(name)
	if err != nil {
		return Endpoint{}, failed("make a network namespace", err)
	}
	defer func() { _ = ns.Close() }()
	e := Endpoint{NetNS: filepath.Join(namedDir, name)}
	if mode == types.NetworkNone {
		return e, failedIf("bring up loopback", withHandle(ns, loopbackUp))
	}
	ip, err := m.addressOf(id)
	if err != nil {
		return e, err
	}
	e.IP, e.Prefix, e.Gateway, e.Resolvers = ip, m.Subnet, m.gateway, m.resolvers
	if err := m.makeVeth(id, ip, ns); err != nil {
		return e, failed("make a VM's interface", err)
	}
	if err := m.allow(ctx, m.vethName(id), ip); err != nil {
		return e, failed("let a VM's address pass", err)
	}
	return e, nil
}

func failedIf(doing string, err error) error {
	if err == nil {
		return nil
	}
	return failed(doing, err)
}

// openNS opens a named namespace, made if missing.
func openNS(name string) (netns.NsHandle, error) {
	if ns, err := netns.GetFromName(name); err == nil {
		return ns, nil
	}
	type result struct {
		ns  netns.NsHandle
		err error
	}
	made := make(chan result)
	go func() {
		// The thread changes its namespace: it is never unlocked, so that it ends
		// with this goroutine and nobody else ever runs on it.
		runtime.LockOSThread()
		ns, err := netns.NewNamed(name)
		made <- result{ns, err}
	}()
	r := <-made
	return r.ns, r.err
}

func withHandle(ns netns.NsHandle, do func(*netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return do(h)
}

func loopbackUp(h *netlink.Handle) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.LinkSetUp(lo)
}

func (m *Manager) makeVeth(id string, ip netip.Addr, ns netns.NsHandle) error {
	bridge, err := netlink.LinkByName(m.Bridge)
	if err != nil {
		return err
	}
	host := m.vethName(id)
	link, err := netlink.LinkByName(host)
	if isMissing(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MasterIndex, attrs.MTU = host, bridge.Attrs().Index, m.mtu()
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}); err != nil {
			return err
		}
		link, err = netlink.LinkByName(host)
	}
	if err != nil {
		return err
	}
	// VMs cannot reach each other even below IP: bridge(8), isolated.
	if err := netlink.LinkSetIsolated(link, true); err != nil {
		return err
	}
	_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", host, "disable_ipv6"), []byte("1"), 0)
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return withHandle(ns, func(h *netlink.Handle) error { return m.configure(h, ip) })
}

// configure gives the VM's end its address and the way out. Where the VM runs
// already, its runtime has taken them over and the interface is bare: that is as
// it should be.
func (m *Manager) configure(h *netlink.Handle, ip netip.Addr) error {
	if err := loopbackUp(h); err != nil {
		return err
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := h.AddrReplace(eth, &netlink.Addr{IPNet: m.ipNet(ip)}); err != nil {
		return err
	}
	if err := h.LinkSetUp(eth); err != nil {
		return err
	}
	return h.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IP(m.gateway.AsSlice())})
}

// mtu is that of the host's way out: larger packets would be lost on the way.
func (m *Manager) mtu() int {
	const usual = 1500
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return usual
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				return l.Attrs().MTU
			}
		}
	}
	return usual
}

// Teardown takes a VM's network away. What is gone already is no error.
func (m *Manager) Teardown(ctx context.Context, id string) error {
	m.mu.Lock()
	var ip netip.Addr
	for a, owner := range m.addresses {
		if owner == id {
			ip = a
		}
	}
	m.mu.Unlock()
	if ip.IsValid() {
		m.disallow(ctx, m.vethName(id), ip)
	}
	if err := m.removeLink(m.vethName(id)); err != nil {
		return failed("remove a VM's interface", err)
	}
	if err := removeNS(m.nsName(id)); err != nil {
		return failed("remove a network namespace", err)
	}
	return m.release(id)
}

func (m *Manager) removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

func removeNS(name string) error {
	path := filepath.Join(namedDir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Sweep takes away the networks of all VMs but those to keep.
func (m *Manager) Sweep(ctx context.Context, keep []string) error {
	var errs []error
	for _, id := range m.owners() {
		if !slices.Contains(keep, id) {
			errs = append(errs, m.Teardown(ctx, id))
		}
	}
	// Namespaces without an address: of VMs without a network, or half made.
	kept := map[string]bool{}
	for _, id := range keep {
		kept[m.nsName(id)] = true
	}
	entries, err := os.ReadDir(namedDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return failed("list the namespaces", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), m.nsPrefix()) && !kept[e.Name()] {
			errs = append(errs, removeNS(e.Name()))
		}
	}
	return errors.Join(errs...)
}
