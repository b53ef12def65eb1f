package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "images"), Options{MaxBytes: 64 << 20, MaxEntries: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// entry is a tar entry of a test.
type entry struct {
	name, link, text string
	kind             byte
	mode             int64
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o755
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.text)), Uid: os.Getuid(), Gid: os.Getgid()}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unlimited() *limits { return &limits{bytes: 1 << 30, entries: 1000} }

// TestHostileLayers unpacks what must not leave its folder.
func TestHostileLayers(t *testing.T) {
	for name, entries := range map[string][]entry{
		"dot dot":               {{name: "../out/x", text: "x"}},
		"dot dot within":        {{name: "a/../../out/x", text: "x"}},
		"through a link":        {{name: "l", kind: tar.TypeSymlink, link: "../out"}, {name: "l/x", text: "x"}},
		"through absolute link": {{name: "l", kind: tar.TypeSymlink, link: "OUT"}, {name: "l/x", text: "x"}},
		"hard link outside":     {{name: "h", kind: tar.TypeLink, link: "../out/secret"}},
		"hard link by a link":   {{name: "l", kind: tar.TypeSymlink, link: "OUT"}, {name: "h", kind: tar.TypeLink, link: "l/secret"}, {name: "h", text: "x"}},
		"folder over a link":    {{name: "l", kind: tar.TypeSymlink, link: "OUT"}, {name: "l", kind: tar.TypeDir}, {name: "l/x", text: "x"}},
		"whiteout of dot dot":   {{name: ".wh...", text: ""}},
		"whiteout by a link":    {{name: "l", kind: tar.TypeSymlink, link: "OUT"}, {name: "l/.wh.secret", text: ""}},
		"mode by a link":        {{name: "l", kind: tar.TypeSymlink, link: "OUT"}, {name: "l", kind: tar.TypeDir, mode: 0o777}},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			root, outside := filepath.Join(base, "root"), filepath.Join(base, "out")
			for _, dir := range []string{root, outside} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range entries {
				entries[i].link = strings.Replace(entries[i].link, "OUT", outside, 1)
			}
			_ = extract(bytes.NewReader(pack(t, entries...)), root, unlimited()) // refused or made harmless
			left, err := os.ReadDir(outside)
			if err != nil || len(left) != 1 {
				t.Fatalf("outside has %v, %v", left, err)
			}
			b, err := os.ReadFile(filepath.Join(outside, "secret"))
			info, statErr := os.Stat(outside)
			if err != nil || statErr != nil || string(b) != "secret" || info.Mode().Perm() != 0o755 {
				t.Fatalf("outside was changed: %q %v", b, info.Mode())
			}
			if _, err := os.Lstat(filepath.Join(root, "h")); err == nil && name != "hard link by a link" {
				t.Fatal("a link to outside was made")
			}
		})
	}
}

func TestAbsoluteNamesAreBelowTheRoot(t *testing.T) {
	root := t.TempDir()
	if err := extract(bytes.NewReader(pack(t, entry{name: "/etc/own", text: "x"})), root, unlimited()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "etc/own")); err != nil {
		t.Fatal(err)
	}
}

func TestLimits(t *testing.T) {
	for name, l := range map[string]*limits{"bytes": {bytes: 3, entries: 100}, "entries": {bytes: 1 << 20, entries: 1}} {
		err := extract(bytes.NewReader(pack(t, entry{name: "a", text: "aaaa"}, entry{name: "b", text: "b"})), t.TempDir(), l)
		if types.KindOf(err) != types.KindTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhiteouts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a whiteout is a device")
	}
	root := t.TempDir()
	err := extract(bytes.NewReader(pack(t, entry{name: "d", kind: tar.TypeDir}, entry{name: "d/.wh..wh..opq"}, entry{name: ".wh.gone"})), root, unlimited())
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(root, "gone"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Fatalf("a removed file is %v, %v", st.Mode, err)
	}
	buf := make([]byte, 8)
	n, err := unix.Getxattr(filepath.Join(root, "d"), "trusted.overlay.opaque", buf)
	if err != nil || string(buf[:n]) != "y" {
		t.Fatalf("opaque is %q, %v", buf[:n], err)
	}
}

func testImage(t *testing.T) v1.Image {
	t.Helper()
	img := empty.Image
	for _, content := range [][]byte{pack(t, entry{name: "base", text: "base"}), pack(t, entry{name: "bin/tool", text: "#!/bin/sh\n"})} {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.Config(img, v1.Config{Env: []string{"A=1"}, WorkingDir: "/bin"})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestSources brings one image here from wherever images come from.
func TestSources(t *testing.T) {
	img := testImage(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/team/app:v1"
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	oci, err := layout.Write(filepath.Join(dir, "oci"), empty.Index)
	if err == nil {
		err = oci.AppendImage(img)
	}
	if err := errors.Join(err, remote.Write(tag, img), tarball.WriteToFile(filepath.Join(dir, "docker.tar"), tag, img)); err != nil {
		t.Fatal(err)
	}
	s := openStore(t)
	for _, source := range []string{ref, "oci:" + filepath.Join(dir, "oci"), "docker-archive:" + filepath.Join(dir, "docker.tar")} {
		got, err := s.Ensure(t.Context(), source, nil)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if len(got.Layers) != 2 || got.Config.Cwd != "/bin" || got.Config.Env[0] != "A=1" {
			t.Fatalf("%s: %+v", source, got)
		}
		if b, err := os.ReadFile(filepath.Join(got.Layers[1], "bin/tool")); err != nil || string(b) != "#!/bin/sh\n" {
			t.Fatalf("%s: %q, %v", source, b, err)
		}
	}
	layers, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil || len(layers) != 2 {
		t.Fatalf("%d layers for one image, %v", len(layers), err)
	}
	server.Close()
	if _, err := s.Ensure(t.Context(), ref, nil); err != nil {
		t.Fatalf("a tag that was pulled needs its registry: %v", err)
	}
	if _, err := s.Pull(t.Context(), ref, nil); types.KindOf(err) != types.KindUnavailable {
		t.Fatalf("a registry that is gone: %v", err)
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%d images, %v", len(list), err)
	}
	if err := s.Remove(t.Context(), list[0].Digest); err != nil {
		t.Fatal(err)
	}
}

func TestMissing(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	s := openStore(t)
	for ref, want := range map[string]types.Kind{
		strings.TrimPrefix(server.URL, "http://") + "/none:v1": types.KindNotFound,
		"127.0.0.1:1/none:v1":          types.KindUnavailable,
		"docker-archive:/none":         types.KindNotFound,
		"dir:/none":                    types.KindNotFound,
		"oci:relative":                 types.KindInvalid,
		"UPPER":                        types.KindInvalid,
		"docker-archive:/proc/version": types.KindUnavailable,
	} {
		if _, err := s.Ensure(t.Context(), ref, nil); types.KindOf(err) != want {
			t.Errorf("%s: %v, want %s", ref, err, want)
		}
	}
	left, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t)
	one, err := s.Pull(t.Context(), "dir:"+dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.Pull(t.Context(), "dir:"+dir, nil)
	if err != nil || one.Digest != two.Digest {
		t.Fatalf("the same folder is %s and %s, %v", one.Digest, two.Digest, err)
	}
}

// TestHostImageHasNoSecrets looks for what the host image must not show.
func TestHostImageHasNoSecrets(t *testing.T) {
	s := openStore(t)
	img, err := s.Ensure(t.Context(), HostRef, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Ensure(context.Background(), HostRef, nil)
	if err != nil || again.Digest != img.Digest {
		t.Fatalf("made anew: %v", err)
	}
	root := img.Layers[0]
	for _, path := range []string{"etc/shadow", "etc/gshadow", "etc/ssl/private", "etc/ssh", "etc/sudoers", "etc/resolv.conf", "etc/hostname"} {
		if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
			t.Errorf("it has /%s", path)
		}
	}
	for _, path := range []string{"root", "home/user", "var/tmp"} {
		if left, err := os.ReadDir(filepath.Join(root, path)); err != nil || len(left) > 0 {
			t.Errorf("/%s has %v, %v", path, left, err)
		}
	}
	for _, b := range img.Binds {
		if b.HostPath == "/" || strings.HasPrefix(b.HostPath, "/etc") || strings.HasPrefix(b.HostPath, "/root") || strings.HasPrefix(b.HostPath, "/home") {
			t.Errorf("it shows the host's %s", b.HostPath)
		}
	}
}
