package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A VM's disk is a sparse ext4 image of the size asked for, mounted by a loop
// device. It holds the overlay's upper and work folders and /tmp, so that what a
// guest writes has a limit, is on disk, and is there after a stop.

const diskFile = "disk.img"

func (r *Runtime) templatesDir() string { return filepath.Join(r.DataDir, "templates") }

// makeDisk makes a VM's disk by copying an empty one of its size: that takes a
// part of the time of mkfs.
func (r *Runtime) makeDisk(ctx context.Context, v vm, sizeMiB int) error {
	if fileExists(v.path(diskFile)) {
		return nil
	}
	template := filepath.Join(r.templatesDir(), strconv.Itoa(sizeMiB)+".ext4")
	if !fileExists(template) {
		if err := makeTemplate(ctx, template, sizeMiB); err != nil {
			return err
		}
	}
	return copySparse(template, v.path(diskFile))
}

func makeTemplate(ctx context.Context, path string, sizeMiB int) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone by then, if all went well
	err = errors.Join(f.Truncate(int64(sizeMiB)<<20), f.Close())
	if err != nil {
		return err
	}
	// No journal: the host's own file system has one, and Start checks the disk
	// after a crash. No blocks for root alone: every guest's root is a user.
	cmd := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode",
		"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", f.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return os.Rename(f.Name(), path)
}

// copySparse copies a file's data and leaves its holes: lseek(2), SEEK_DATA.
func copySparse(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = dst.Close() }()
	if err := dst.Truncate(info.Size()); err != nil {
		return err
	}
	for offset := int64(0); ; {
		begin, err := src.Seek(offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no more data
			return dst.Close()
		}
		if err != nil {
			return err
		}
		end, err := src.Seek(begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, begin), io.NewSectionReader(src, begin, end-begin)); err != nil {
			return err
		}
		offset = end
	}
}

// checkDisk mends a disk's file system after a crash of the host; else it looks
// for 10 ms.
func checkDisk(ctx context.Context, path string) error {
	const mended = 1 // exit codes of e2fsck(8): 0 and 1 are well, more is worse
	var out []byte
	var err error
	for _, how := range []string{"-p", "-y"} { // what is safe to mend, then all
		out, err = exec.CommandContext(ctx, "e2fsck", how, path).CombinedOutput()
		exit, ran := errors.AsType[*exec.ExitError](err)
		if err == nil || ran && exit.ExitCode() == mended {
			return nil
		}
	}
	return fmt.Errorf("the disk is damaged: %w: %s", cause(ctx, err), lastWords(out))
}
