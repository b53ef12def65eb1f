// Package network gives each VM of this host a network namespace of its own: a
// veth on a bridge, an address that survives restarts, the internet by NAT, and
// rules that let it reach nothing else. It knows VMs by their ids only.
package network

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
)

// Config says which bridge and addresses are a Manager's. Two managers on one
// host need two of both.
type Config struct {
	Bridge   string       // its name, at most 11 characters; it is made and removed by the manager
	Subnet   netip.Prefix // IPv4; the bridge has the first address
	StateDir string       // remembers who has which address
	Log      *slog.Logger
}

// Manager owns a bridge and all that hangs on it.
type Manager struct {
	Config
	gateway   netip.Addr
	resolvers []netip.Addr

	mu        sync.Mutex
	addresses map[netip.Addr]string // who has it
}

// Endpoint is a VM's network.
type Endpoint struct {
	NetNS     string // path of its network namespace
	IP        netip.Addr
	Prefix    netip.Prefix // the bridge's
	Gateway   netip.Addr
	Resolvers []netip.Addr
}

// Open makes the bridge and the rules, or finds them as they should be.
func Open(ctx context.Context, cfg Config) (*Manager, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	m := &Manager{Config: cfg, addresses: make(map[netip.Addr]string)}
	if err := m.validate(); err != nil {
		return nil, err
	}
	m.gateway = cfg.Subnet.Masked().Addr().Next()
	m.resolvers = hostResolvers(cfg.Log)
	if err := m.loadAddresses(); err != nil {
		return nil, failed("read the addresses", err)
	}
	if err := m.checkFree(); err != nil {
		return nil, err
	}
	if err := m.makeBridge(); err != nil {
		return nil, failed("make the bridge "+cfg.Bridge, err)
	}
	if err := m.enableForwarding(); err != nil {
		return nil, failed("let the host forward", err)
	}
	if err := m.installRules(ctx); err != nil {
		return nil, failed("install the firewall's rules", err)
	}
	return m, nil
}

func failed(doing string, err error) error {
	e := types.Errorf(types.KindUnavailable, "network: %s: %w", doing, err)
	if os.Geteuid() != 0 {
		return e.WithRemedy("run as root: bridges, namespaces and rules need it")
	}
	return e
}

func (m *Manager) validate() error {
	const most = 11 // interface names have 15, and rules are made of it
	if m.Bridge == "" || len(m.Bridge) > most || strings.ContainsAny(m.Bridge, " /\"") {
		return types.InvalidField("bridge", m.Bridge, "is no name for a bridge", "use 1 to 11 letters and digits, as aether0")
	}
	if !m.Subnet.IsValid() || !m.Subnet.Addr().Is4() || m.Subnet.Bits() > 29 {
		return types.InvalidField("subnet", m.Subnet, "is no IPv4 network with room for VMs", "use one like 10.88.0.0/16")
	}
	return nil
}

// checkFree refuses a subnet that some other interface of the host has: its
// packets would go astray.
func (m *Manager) checkFree() error {
	links, err := netlink.LinkList()
	if err != nil {
		return failed("list the interfaces", err)
	}
	for _, l := range links {
		if l.Attrs().Name == m.Bridge {
			continue
		}
		addrs, err := netlink.AddrList(l, unix.AF_INET)
		if err != nil {
			continue // it went away
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP.To4())
			ones, _ := a.Mask.Size()
			if ok && m.Subnet.Overlaps(netip.PrefixFrom(ip, ones)) {
				return types.Errorf(types.KindConflict, "subnet %s is in use by interface %s (%s)", m.Subnet, l.Attrs().Name, a.IPNet).
					WithRemedy("choose another one with --subnet, and another bridge with --bridge")
			}
		}
	}
	return nil
}

func (m *Manager) makeBridge() error {
	link, err := netlink.LinkByName(m.Bridge)
	if isMissing(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = m.Bridge
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !os.IsExist(err) {
			return err
		}
		link, err = netlink.LinkByName(m.Bridge)
	}
	if err != nil {
		return err
	}
	// Nothing here speaks IPv6; without this the bridge would take an address.
	_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", m.Bridge, "disable_ipv6"), []byte("1"), 0)
	addr := &netlink.Addr{IPNet: m.ipNet(m.gateway)}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func (m *Manager) ipNet(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(m.Subnet.Bits(), 32)}
}

const forwarding = "/proc/sys/net/ipv4/ip_forward"

// enableForwarding turns the host's forwarding on, and remembers if it was off.
func (m *Manager) enableForwarding() error {
	was, err := os.ReadFile(forwarding)
	if err != nil || strings.TrimSpace(string(was)) == "1" {
		return err
	}
	if err := os.WriteFile(m.forwardingNote(), was, 0o600); err != nil {
		return err
	}
	return os.WriteFile(forwarding, []byte("1"), 0)
}

func (m *Manager) forwardingNote() string { return filepath.Join(m.StateDir, "ip_forward.was") }

// Cleanup takes away the bridge, the rules and all VMs' networks, and leaves the
// host as Open found it.
func (m *Manager) Cleanup(ctx context.Context) error {
	if err := m.Sweep(ctx, nil); err != nil {
		return err
	}
	if err := m.removeRules(ctx); err != nil {
		return failed("remove the firewall's rules", err)
	}
	if link, err := netlink.LinkByName(m.Bridge); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			return failed("remove the bridge "+m.Bridge, err)
		}
	}
	was, err := os.ReadFile(m.forwardingNote())
	if err != nil {
		return nil // it was on before us
	}
	if err := os.WriteFile(forwarding, was, 0); err != nil {
		return failed("restore the host's forwarding", err)
	}
	return os.Remove(m.forwardingNote())
}

func isMissing(err error) bool {
	_, ok := err.(netlink.LinkNotFoundError) //nolint:errorlint // netlink answers it bare
	return ok
}

// hostResolvers are the DNS servers of this host that a VM can reach too: one on
// the host's own loopback is no use to it.
func hostResolvers(log *slog.Logger) []netip.Addr {
	for _, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var found []netip.Addr
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "nameserver" {
				continue
			}
			if ip, err := netip.ParseAddr(f[1]); err == nil && ip.Is4() && !ip.IsLoopback() {
				found = append(found, ip)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	log.Warn("no DNS server of this host can be reached from a VM: names will not resolve there", "remedy", "name one in /etc/resolv.conf that is not on loopback")
	return nil
}

func (e Endpoint) String() string { return fmt.Sprintf("%s in %s", e.IP, e.NetNS) }
