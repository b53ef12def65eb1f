package gvisor

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
)

// Dial implements runtime.Runtime. The socket is in a folder that the guest can
// write to, so what is there may be a link to a socket of the host's: it is
// opened without following any, looked at, and connected to by that very
// descriptor.
func (r *Runtime) Dial(ctx context.Context, id string) (net.Conn, error) {
	v, err := r.vm(id)
	if err != nil {
		return nil, err
	}
	dir, err := unix.Open(v.path("sock"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, types.Errorf(types.KindNotFound, "VM %s has no agent's socket: %w", id, err)
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat(dir, socketName, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, types.Errorf(types.KindUnavailable, "the agent of VM %s does not listen: %w", id, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, types.Errorf(types.KindUnavailable, "what is in the place of the agent's socket of VM %s is none", id)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, types.Errorf(types.KindUnavailable, "the agent of VM %s does not answer: %w", id, err)
	}
	return conn, nil
}
