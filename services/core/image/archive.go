package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
)

// unpackLayout unpacks the tar of an OCI layout: plain files and folders only.
func unpackLayout(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return types.Errorf(types.KindInvalid, "%s is no tar: %w", file, err)
		}
		name, err := place(h.Name)
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeReg:
			err = errors.Join(root.MkdirAll(filepath.Dir(name), 0o755), writeFile(root, name, r))
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, r io.Reader) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// packDir writes a folder as a layer's tar, in the order of its names, so that
// the same content is the same bytes.
func packDir(to io.Writer, dir string) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return packFile(w, path, name, info)
	})
	if err != nil {
		return err
	}
	return w.Close()
}

func packFile(w *tar.Writer, path, name string, info fs.FileInfo) error {
	if !info.IsDir() && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0 {
		return nil // sockets, pipes and devices are no part of an image
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{} // reading changes those
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.Copy(w, f)
	return err
}

// digester reads through and knows the digest of what it read.
type digester struct {
	io.Reader
	sum hash.Hash
}

func newDigester(r io.Reader) *digester {
	h := sha256.New()
	return &digester{Reader: io.TeeReader(r, h), sum: h}
}

// digest reads to the end and answers "sha256:…".
func (d *digester) digest() (string, error) {
	if _, err := io.Copy(io.Discard, d); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(d.sum.Sum(nil)), nil
}
