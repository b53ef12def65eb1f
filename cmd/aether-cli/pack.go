package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// pack writes a folder as a tar whose names begin with name. What is neither
// file, folder nor link is left out: it means nothing elsewhere.
func pack(to io.Writer, from, name string) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		return packEntry(w, p, path.Join(name, filepath.ToSlash(rel)), d)
	})
	if err != nil {
		return err
	}
	return w.Close()
}

func packEntry(w *tar.Writer, p, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	target := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err = os.Readlink(p); err != nil {
			return err
		}
	case !info.IsDir() && !info.Mode().IsRegular():
		return nil
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	// Who owns it here is nobody there.
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.Format = name, 0, 0, "", "", tar.FormatPAX
	if !info.Mode().IsRegular() {
		return w.WriteHeader(h)
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if _, err = io.CopyN(w, f, h.Size); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s became shorter while it was read", p)
	}
	return err
}
