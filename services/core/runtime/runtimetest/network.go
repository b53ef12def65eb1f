package runtimetest

import (
	"bytes"
	"fmt"
	"net"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// connects reports whether a guest can open a TCP connection.
func (m *machine) connects(host string, port int) bool {
	return m.exec(types.ExecSpec{
		Command: "bash", Args: []string{"-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", host, port)}, Timeout: types.Duration(2 * time.Second),
	}).ExitCode == 0
}

// networkReach checks what a guest must not reach: the host by any of its
// addresses, and other VMs.
func networkReach(s *suite) {
	if !s.can(runtime.CapNetwork) {
		return
	}
	m, other := s.create(), s.create()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	s.ok(err)
	s.Cleanup(func() { _ = l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	addrs, err := net.InterfaceAddrs()
	s.ok(err)
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.To4() != nil && !ip.IsLoopback() && m.connects(ip.String(), port) {
			s.Errorf("the guest reaches the host at %s", ip)
		}
	}
	if m.connects("169.254.169.254", 80) {
		s.Error("the guest reaches the metadata service")
	}
	id := "server"
	_, err = other.guest.Start(s.Context(), id, types.ExecSpec{Command: "python3", Args: []string{"-m", "http.server", "8000"}})
	s.ok(err)
	other.waitPort(8000)
	if m.connects(other.inst.IP, 8000) {
		s.Error("one VM reaches another")
	}
	none := s.create(func(spec *runtime.Spec) { spec.Network = types.NetworkNone })
	s.Logf("addresses: %s and %q", m.inst.IP, none.inst.IP)
	if none.inst.IP != "" {
		s.Errorf("a VM without a network has the address %s", none.inst.IP)
	}
}

func (m *machine) waitPort(port uint16) {
	m.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := m.guest.DialPort(m.Context(), port)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			m.Fatalf("nothing answers on port %d: %v", port, err)
		}
	}
}

func ports(s *suite) {
	m := s.create()
	_, err := m.guest.Start(s.Context(), "server", types.ExecSpec{Command: "python3", Args: []string{"-m", "http.server", "8000", "--directory", "/usr/lib"}})
	s.ok(err)
	m.waitPort(8000)
	conn, err := m.guest.DialPort(s.Context(), 8000)
	s.ok(err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	s.ok(err)
	s.ok(conn.SetReadDeadline(time.Now().Add(20 * time.Second)))
	var answer bytes.Buffer
	_, err = answer.ReadFrom(conn)
	s.ok(err)
	if !bytes.Contains(answer.Bytes(), []byte("200 OK")) {
		s.Fatalf("the guest's server says %q", answer.String())
	}
	_, err = m.guest.DialPort(s.Context(), 9)
	s.kind(err, types.KindUnavailable)
}
