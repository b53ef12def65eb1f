package network

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"text/template"
)

// The rules, one table for IP and one for the bridge, are installed by one
// nft(8) transaction: there is never a moment with half of them.
//
// A VM reaches the internet and the host's DNS servers. It does not reach the
// host, other VMs, or any range that is not the internet: private (RFC 1918),
// shared (RFC 6598), link-local with the cloud's metadata (RFC 3927), loopback,
// multicast and reserved. Nobody outside begins a connection to a VM; the worker
// goes in by the guest agent. On the bridge a VM has its own address alone.
var ruleset = template.Must(template.New("rules").Parse(`
table inet {{.Table}} {}
delete table inet {{.Table}}
table inet {{.Table}} {
	set resolvers {
		type ipv4_addr
		{{- if .Resolvers}}
		elements = { {{.Resolvers}} }
		{{- end}}
	}
	set private {
		type ipv4_addr
		flags interval
		elements = { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 224.0.0.0-255.255.255.255 }
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname != "{{.Bridge}}" oifname != "{{.Bridge}}" accept
		oifname "{{.Bridge}}" ct state established,related accept
		oifname "{{.Bridge}}" drop
		meta nfproto != ipv4 drop
		ip saddr != {{.Subnet}} drop
		ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
		ip daddr @private reject with icmp admin-prohibited
	}
	chain input {
		type filter hook input priority filter - 5; policy accept;
		iifname "{{.Bridge}}" ct state established,related accept
		iifname "{{.Bridge}}" icmp type echo-request ip daddr {{.Gateway}} accept
		iifname "{{.Bridge}}" drop
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {{.Subnet}} oifname != "{{.Bridge}}" masquerade
	}
}
table bridge {{.Table}} {}
delete table bridge {{.Table}}
table bridge {{.Table}} {
	set owners {
		type ifname . ipv4_addr
		{{- if .Owners}}
		elements = { {{.Owners}} }
		{{- end}}
	}
	chain prerouting {
		type filter hook prerouting priority 0; policy accept;
		iifname != "{{.Veths}}*" accept
		ether type ip iifname . ip saddr @owners accept
		ether type arp iifname . arp saddr ip @owners accept
		drop
	}
}
`))

func (m *Manager) table() string { return "aetherium_" + strings.ReplaceAll(m.Bridge, "-", "_") }

func (m *Manager) installRules(ctx context.Context) error {
	var owners []string
	m.mu.Lock()
	for ip, id := range m.addresses {
		owners = append(owners, fmt.Sprintf("%q . %s", m.vethName(id), ip))
	}
	m.mu.Unlock()
	resolvers := make([]string, len(m.resolvers))
	for i, r := range m.resolvers {
		resolvers[i] = r.String()
	}
	var rules bytes.Buffer
	err := ruleset.Execute(&rules, map[string]any{
		"Table": m.table(), "Veths": m.vethPrefix(), "Bridge": m.Bridge, "Subnet": m.Subnet.Masked(), "Gateway": m.gateway,
		"Resolvers": strings.Join(resolvers, ", "), "Owners": strings.Join(owners, ", "),
	})
	if err != nil {
		return err
	}
	if err := nft(ctx, rules.String()); err != nil {
		return err
	}
	return m.passOthersDrop(ctx)
}

func nft(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (m *Manager) allow(ctx context.Context, veth string, ip netip.Addr) error {
	return nft(ctx, fmt.Sprintf("add element bridge %s owners { %q . %s }", m.table(), veth, ip))
}

func (m *Manager) disallow(ctx context.Context, veth string, ip netip.Addr) {
	// What is not there cannot be taken out; there is nothing more to do about it.
	if err := nft(ctx, fmt.Sprintf("delete element bridge %s owners { %q . %s }", m.table(), veth, ip)); err != nil {
		m.Log.Debug("address was not on the bridge's list", "veth", veth, "error", err)
	}
}

func (m *Manager) removeRules(ctx context.Context) error {
	if err := m.unpassOthersDrop(ctx); err != nil {
		return err
	}
	// Naming a table makes it, so that its removal cannot fail for want of it.
	return nft(ctx, strings.ReplaceAll("table inet T {}\ndelete table inet T\ntable bridge T {}\ndelete table bridge T\n", "T", m.table()))
}

// Docker, among others, makes the host's FORWARD chain drop what it does not
// know; an accept in our own table does not overrule that. So our bridge is let
// pass there, by two rules that carry our name.

// othersChains are the chains to enter, the first that there is.
var othersChains = []string{"DOCKER-USER", "FORWARD"}

func (m *Manager) passOthersDrop(ctx context.Context) error {
	if err := m.unpassOthersDrop(ctx); err != nil || !dropsForwarded(ctx) {
		return err
	}
	for _, chain := range othersChains {
		if _, err := listChain(ctx, chain); err != nil {
			continue
		}
		return nft(ctx, fmt.Sprintf("insert rule ip filter %s iifname %q counter accept comment %q\ninsert rule ip filter %s oifname %q counter accept comment %q\n",
			chain, m.Bridge, m.table(), chain, m.Bridge, m.table()))
	}
	return nil
}

func (m *Manager) unpassOthersDrop(ctx context.Context) error {
	for _, chain := range othersChains {
		rules, err := listChain(ctx, chain)
		if err != nil {
			continue
		}
		for _, r := range rules {
			if r.Rule.Comment != m.table() {
				continue
			}
			if err := nft(ctx, fmt.Sprintf("delete rule ip filter %s handle %d", chain, r.Rule.Handle)); err != nil {
				return err
			}
		}
	}
	return nil
}

// chainEntry is what libnftables-json(5) says of a chain and its rules.
type chainEntry struct {
	Chain struct {
		Policy string `json:"policy"`
	} `json:"chain"`
	Rule struct {
		Handle  int    `json:"handle"`
		Comment string `json:"comment"`
	} `json:"rule"`
}

func listChain(ctx context.Context, chain string) ([]chainEntry, error) {
	out, err := exec.CommandContext(ctx, "nft", "-j", "-a", "list", "chain", "ip", "filter", chain).Output()
	if err != nil {
		return nil, err
	}
	var list struct {
		Entries []chainEntry `json:"nftables"`
	}
	return list.Entries, json.Unmarshal(out, &list)
}

func dropsForwarded(ctx context.Context) bool {
	entries, err := listChain(ctx, "FORWARD")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if e.Chain.Policy == "drop" {
			return true
		}
	}
	return false
}
