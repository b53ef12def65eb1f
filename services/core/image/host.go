package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// HostRef names the image of this host's own programs.
const HostRef = "host"

// The host image is a small layer with a clean /etc, over which the host's own
// program folders are shown read-only. Nothing of /etc is copied but what is
// named here, and nothing of /root, /home, /var or /run.

// programDirs are the folders with programs. Where one is a link, as on a host
// with a merged /usr, the link is copied.
var programDirs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// etcCopied are the files and folders of /etc that programs need and that hold
// no secret. Links in them are kept; certificates are public.
var etcCopied = []string{
	"alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl/certs", "ssl/openssl.cnf", "ca-certificates.conf",
	"mime.types", "localtime", "timezone", "terminfo", "bash.bashrc", "inputrc", "os-release", "debian_version", "services", "protocols",
	"java-17-openjdk", "java-21-openjdk", "python3", "python3.11", "perl", "magic", "lsb-release", "locale.alias", "default/locale", "skel",
}

// etcWritten are the files of /etc that are the image's own.
var etcWritten = map[string]string{
	"passwd":        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nuser:x:1000:1000:user:/home/user:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"group":         "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nuser:x:1000:\nnogroup:x:65534:\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
	"profile":       "export PATH=${PATH:-" + hostPath + "}\nexport PS1='\\u@\\h:\\w\\$ '\n",
	"shells":        "/bin/sh\n/bin/bash\n",
	"machine-id":    "",
	"gitconfig":     "[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n",
}

const hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// emptyDirs are folders that programs expect, and their modes.
var emptyDirs = []struct {
	path string
	mode fs.FileMode
}{
	{"root", 0o700}, {"home", 0o755}, {"home/user", 0o755}, {"tmp", 0o777 | fs.ModeSticky}, {"run", 0o755}, {"run/lock", 0o777 | fs.ModeSticky},
	{"proc", 0o755}, {"sys", 0o755}, {"dev", 0o755}, {"opt", 0o755}, {"srv", 0o755}, {"mnt", 0o755}, {"media", 0o755},
	{"var", 0o755}, {"var/tmp", 0o777 | fs.ModeSticky}, {"var/lib", 0o755}, {"var/log", 0o755}, {"var/cache", 0o755}, {"etc", 0o755},
}

const userID = 1000

// hostImage makes the host image, or finds it unchanged. Its digest is of all
// that its layer was made from.
func (s *Store) hostImage() (*Image, error) {
	digest, err := hostDigest()
	if err != nil {
		return nil, failed("look at this host's /etc", err)
	}
	layer := s.layerDir(digest)
	if !exists(layer) {
		err := s.install(layer, func(dir string) error { return makeHostLayer(dir) })
		if err != nil {
			return nil, failed("make the host image", err)
		}
	}
	img := &Image{Digest: "sha256:" + digest, Ref: HostRef, Layers: []string{layer}, Config: Config{Env: []string{"PATH=" + hostSearchPath()}}}
	for _, dir := range programDirs {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			img.Binds = append(img.Binds, Bind{HostPath: dir, GuestPath: dir})
		}
	}
	img.SizeBytes = treeSize(layer)
	return img, nil
}

// hostSearchPath has the toolchains of the host too.
func hostSearchPath() string {
	path := hostPath
	for _, dir := range []string{"/usr/local/go/bin"} {
		if exists(dir) {
			path = dir + ":" + path
		}
	}
	return path
}

// hostDigest is over names, sizes and times: cheap, and different whenever the
// layer would be.
func hostDigest() (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, "1", programDirs, emptyDirs)
	names := make([]string, 0, len(etcWritten))
	for name := range etcWritten {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		_, _ = fmt.Fprintf(h, "%s %q\n", name, etcWritten[name])
	}
	for _, dir := range programDirs {
		target, _ := os.Readlink(dir)
		_, _ = fmt.Fprintln(h, dir, target)
	}
	for _, name := range etcCopied {
		err := filepath.WalkDir(filepath.Join("/etc", name), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return nil //nolint:nilerr // it went while we looked: it is not there
			}
			_, _ = fmt.Fprintln(h, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func makeHostLayer(dir string) error {
	for _, d := range emptyDirs {
		path := filepath.Join(dir, d.path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(path, d.mode); err != nil {
			return err
		}
	}
	if err := os.Chown(filepath.Join(dir, "home/user"), userID, userID); err != nil && os.Geteuid() == 0 {
		return err
	}
	for _, p := range programDirs {
		switch target, err := os.Readlink(p); {
		case err == nil:
			if err := os.Symlink(target, filepath.Join(dir, p)); err != nil {
				return err
			}
		case exists(p):
			if err := os.Mkdir(filepath.Join(dir, p), 0o755); err != nil {
				return err
			}
		}
	}
	for _, name := range etcCopied {
		if err := copyTree(filepath.Join("/etc", name), filepath.Join(dir, "etc", name)); err != nil {
			return err
		}
	}
	for name, text := range etcWritten {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies what anybody may read: files, folders and links. Links that
// lead out of /usr and /etc (as certificates of the administrator's do) become
// the file that they lead to.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			return copyLink(path, target)
		case d.Type().IsRegular():
			return copyPublic(path, target)
		}
		return nil
	})
}

func copyLink(path, target string) error {
	to, err := os.Readlink(path)
	if err != nil {
		return err
	}
	absolute := to
	if !filepath.IsAbs(absolute) {
		absolute = filepath.Join(filepath.Dir(path), to)
	}
	if strings.HasPrefix(absolute, "/usr/") || filepath.Dir(absolute) == filepath.Dir(path) || strings.HasPrefix(absolute, "/etc/alternatives/") {
		return os.Symlink(to, target)
	}
	return copyPublic(path, target)
}

// copyPublic copies a file that everybody may read; any other is no part of an
// image.
func copyPublic(path, target string) error {
	const worldReadable = 0o004
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&worldReadable == 0 {
		return nil //nolint:nilerr // a dangling link is no part either
	}
	src, err := os.Open(path)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode().Perm()&0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
