package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

// An address in use is a file of its name that holds the VM's id: making one is
// atomic, and it is there after any crash.

func (m *Manager) addressDir() string { return filepath.Join(m.StateDir, "addresses") }

func (m *Manager) loadAddresses() error {
	if err := os.MkdirAll(m.addressDir(), 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(m.addressDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		ip, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		id, err := os.ReadFile(filepath.Join(m.addressDir(), e.Name()))
		if err != nil {
			return err
		}
		m.addresses[ip] = strings.TrimSpace(string(id))
	}
	return nil
}

// addressOf answers a VM's address, taking a free one if it has none.
func (m *Manager) addressOf(id string) (netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ip, owner := range m.addresses {
		if owner == id && m.Subnet.Contains(ip) {
			return ip, nil
		}
	}
	for ip := m.gateway.Next(); m.Subnet.Contains(ip); ip = ip.Next() {
		if _, taken := m.addresses[ip]; taken || !m.Subnet.Contains(ip.Next()) { // the last is the broadcast address
			continue
		}
		f, err := os.OpenFile(filepath.Join(m.addressDir(), ip.String()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return netip.Addr{}, failed("take an address", err)
		}
		_, err = f.WriteString(id)
		if err := errors.Join(err, f.Close()); err != nil {
			return netip.Addr{}, failed("take an address", err)
		}
		m.addresses[ip] = id
		return ip, nil
	}
	return netip.Addr{}, types.Errorf(types.KindExhausted, "no address of %s is free", m.Subnet).WithRemedy("delete VMs, or give the worker a larger --subnet")
}

// release gives a VM's address back.
func (m *Manager) release(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ip, owner := range m.addresses {
		if owner != id {
			continue
		}
		if err := os.Remove(filepath.Join(m.addressDir(), ip.String())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return failed("give an address back", err)
		}
		delete(m.addresses, ip)
	}
	return nil
}

func (m *Manager) owners() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for _, id := range m.addresses {
		ids = append(ids, id)
	}
	return ids
}
