package gvisor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/aetherium/aetherium/services/core/network"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// writeEtc puts what names the VM and its network into its root file system. A
// guest that ran before may have left anything there, as a link to the host's
// own /etc: nothing is followed, and what is in a file's place is replaced. A
// guest without a folder /etc gets no files.
func writeEtc(rootfs string, s runtime.Spec, e network.Endpoint) error {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := root.Mkdir("etc", 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := root.Lstat("etc"); err != nil || !info.IsDir() {
		return err
	}
	etc, err := root.OpenRoot("etc")
	if err != nil {
		return err
	}
	defer func() { _ = etc.Close() }()
	for name, text := range map[string]string{"hosts": hostsFile(s, e), "resolv.conf": resolvFile(e), "hostname": s.Hostname + "\n"} {
		if err := etc.RemoveAll(name); err != nil {
			return err
		}
		f, err := etc.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func hostsFile(s runtime.Spec, e network.Endpoint) string {
	own := netip.MustParseAddr("127.0.1.1")
	if e.IP.IsValid() {
		own = e.IP
	}
	return fmt.Sprintf("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\t%s\n", own, s.Hostname)
}

func resolvFile(e network.Endpoint) string {
	var b strings.Builder
	for _, ip := range e.Resolvers {
		fmt.Fprintf(&b, "nameserver %s\n", ip)
	}
	return b.String()
}
