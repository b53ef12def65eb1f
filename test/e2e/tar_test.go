package e2e

import (
	"archive/tar"
	"bytes"
	"testing"
)

// escapingTar is an archive whose entry would leave the folder.
func escapingTar(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := "escaped"
	if err := w.WriteHeader(&tar.Header{Name: "../escaped", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
