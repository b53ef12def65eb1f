package gvisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/services/core/image"
)

// mount mounts a VM's disk, its root file system over it, and the little file
// system for the agent's socket. Each is left alone where it is mounted already.
func mount(v vm, img *image.Image) error {
	for _, dir := range []string{"disk", "rootfs", "sock", "bin"} {
		if err := os.MkdirAll(v.path(dir), 0o755); err != nil {
			return err
		}
	}
	if !mounted(v.path("disk")) {
		if err := mountLoop(v.path(diskFile), v.path("disk")); err != nil {
			return fmt.Errorf("mount the disk: %w", err)
		}
	}
	for dir, mode := range map[string]os.FileMode{"upper": 0o755, "work": 0o700, "tmp": 0o777 | os.ModeSticky} {
		path := filepath.Join(v.path("disk"), dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	if !mounted(v.path("rootfs")) {
		if err := mountOverlay(v, img.Layers); err != nil {
			return fmt.Errorf("mount the root file system: %w", err)
		}
	}
	if !mounted(v.path("sock")) {
		// The guest can write here: not more than this.
		if err := unix.Mount("tmpfs", v.path("sock"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,nr_inodes=16,mode=0755"); err != nil {
			return fmt.Errorf("mount the socket's folder: %w", err)
		}
	}
	return nil
}

// mountOverlay joins layers and upper.
func mountOverlay(v vm, layers []string) error {
	if len(layers) == 0 {
		return errors.New("the image has no layer")
	}
	const most = 4000 // mount(2) takes a page of options
	options := "lowerdir=" + strings.Join(reversed(layers), ":") + ",upperdir=" + v.path("disk/upper") + ",workdir=" + v.path("disk/work")
	if len(options) < most {
		return unix.Mount("overlay", v.path("rootfs"), "overlay", unix.MS_NODEV|unix.MS_NOSUID, options)
	}
	return mountManyLayers(v, layers)
}

// mountManyLayers names the layers one by one: fsconfig(2), and Linux 6.8's
// Documentation/filesystems/overlayfs.rst for lowerdir+.
func mountManyLayers(v vm, layers []string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fs) }()
	set := func(key, value string) error {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return fmt.Errorf("%s=%s: %w: an image of so many layers needs Linux 6.8", key, value, err)
		}
		return nil
	}
	for _, l := range reversed(layers) {
		if err := set("lowerdir+", l); err != nil {
			return err
		}
	}
	if err := errors.Join(set("upperdir", v.path("disk/upper")), set("workdir", v.path("disk/work"))); err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("%w: %s", err, fsMessage(fs))
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(m) }()
	return unix.MoveMount(m, "", unix.AT_FDCWD, v.path("rootfs"), unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// fsMessage is what the kernel says of a failed mount.
func fsMessage(fs int) string {
	buf := make([]byte, 1024)
	n, err := unix.Read(fs, buf)
	if err != nil || n <= 0 {
		return "the kernel gives no reason"
	}
	return string(buf[:n])
}

// reversed is a list from its end: overlayfs names the top layer first.
func reversed(list []string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[len(list)-1-i] = v
	}
	return out
}

// unmount undoes mount; what is not mounted is no error.
func unmount(v vm) error {
	var errs []error
	for _, dir := range []string{"sock", "rootfs", "disk"} {
		for mounted(v.path(dir)) {
			if err := unix.Unmount(v.path(dir), unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", dir, err))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// mounted reports whether a folder is a mount point: statx(2).
func mounted(path string) bool {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st) != nil {
		return false
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
