package gvisor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const loopControl = "/dev/loop-control"

// loopUsable says why disks cannot be mounted here, if so.
func loopUsable() error {
	f, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("no loop devices (%w): load the kernel's loop module (modprobe loop), or give the container /dev/loop-control", err)
	}
	return f.Close()
}

// mountLoop mounts an ext4 image. The loop device goes away by itself when the
// mount does: loop(4), LO_FLAGS_AUTOCLEAR.
func mountLoop(image, target string) error {
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = backing.Close() }()
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = control.Close() }()
	const tries = 64 // others may take the device between the two calls
	for range tries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return fmt.Errorf("find a free loop device: %w", err)
		}
		err = mountOn(fmt.Sprintf("/dev/loop%d", n), n, backing, target)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return errors.New("no loop device stays free for long enough")
}

func mountOn(device string, n int, backing *os.File, target string) error {
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		// Where nobody makes device nodes, as in a container: major 7 is loop's.
		if err := unix.Mknod(device, unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		dev, err = os.OpenFile(device, os.O_RDWR, 0)
	}
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }()
	config := unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO}}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], backing.Name())
	err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
	if errors.Is(err, unix.EINVAL) { // the backing file system has no direct I/O
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(device, target, "ext4", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOATIME, "discard"); err != nil {
		_ = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0)
		return err
	}
	return nil
}
