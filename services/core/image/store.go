package image

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
)

// Options are a store's limits. Zero means the default.
type Options struct {
	MaxBytes   int64 // unpacked, all layers of an image together; 64 GiB
	MaxEntries int   // in all layers of an image; 2,000,000
	Log        *slog.Logger
}

const (
	defaultMaxBytes   = 64 << 30
	defaultMaxEntries = 2_000_000
)

// Store keeps images on disk by content:
//
//	layers/<digest>    an unpacked layer, shared by all images that have it
//	images/<key>.json  what an image is made of, by the reference it came under
//	tmp                what is being made; emptied when the store is opened
//
// Several processes may use one store: what is made is made in tmp and renamed.
type Store struct {
	dir     string
	opts    Options
	pulling singleflight.Group
	lock    *os.File
	mu      sync.Mutex
}

// Open opens a store, made if missing.
func Open(dir string, opts Options) (*Store, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = defaultMaxBytes
	}
	if opts.MaxEntries == 0 {
		opts.MaxEntries = defaultMaxEntries
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	s := &Store{dir: dir, opts: opts}
	for _, sub := range []string{"layers", "images", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, failed("open the image store", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, failed("open the image store", err)
	}
	s.lock = lock
	// Alone in the store, nobody is making anything: what is in tmp is left over.
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		err := errors.Join(os.RemoveAll(filepath.Join(dir, "tmp")), os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
		if err != nil {
			return nil, failed("tidy the image store", err)
		}
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		return nil, failed("lock the image store", err)
	}
	return s, nil
}

// Close lets the store go.
func (s *Store) Close() error { return s.lock.Close() }

func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*types.Error](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	kind := types.KindUnavailable
	if errors.Is(err, unix.ENOSPC) {
		kind = types.KindExhausted
	}
	return types.Errorf(kind, "%s: %w", doing, err)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (s *Store) layerDir(digest string) string {
	return filepath.Join(s.dir, "layers", strings.TrimPrefix(digest, "sha256:"))
}

// install makes a folder whole or not at all.
func (s *Store) install(dir string, fill func(tmp string) error) error {
	tmp, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), "new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // gone by then, if all went well
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil && !exists(dir) { // else another process was first
		return err
	}
	return nil
}

// Progress is how far a pull is.
type Progress struct {
	Phase string // resolve, download or unpack
	Done  int64  // bytes
	Total int64  // bytes; zero while it is not known
}

// Ensure answers an image, pulled if this host does not have it. A tag that was
// pulled once stays as it was: Pull looks for a newer one. Calls at the same time
// for the same reference share the work.
func (s *Store) Ensure(ctx context.Context, ref string, progress func(Progress)) (*Image, error) {
	r, err := types.ParseImageRef(ref)
	if err != nil {
		return nil, err
	}
	if r.Scheme == types.ImageHost {
		return s.hostImage()
	}
	if img, err := s.load(r); err == nil {
		return img, nil
	}
	return s.pullShared(ctx, r, progress)
}

// Pull answers what a reference means now, and brings it here if it is new.
func (s *Store) Pull(ctx context.Context, ref string, progress func(Progress)) (*Image, error) {
	r, err := types.ParseImageRef(ref)
	if err != nil {
		return nil, err
	}
	if r.Scheme == types.ImageHost {
		return s.hostImage()
	}
	return s.pullShared(ctx, r, progress)
}

// manifest is what is kept of an image.
type manifest struct {
	Ref       string
	Digest    string
	Layers    []string // digests of the unpacked layers, base first
	Config    Config
	SizeBytes int64
	PulledAt  time.Time
}

func (s *Store) manifestPath(r types.ImageRef) string {
	return filepath.Join(s.dir, "images", r.Key()+".json")
}

func (s *Store) load(r types.ImageRef) (*Image, error) { return s.read(s.manifestPath(r)) }

func (s *Store) read(path string) (*Image, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	return s.image(m)
}

// image is what a manifest describes, if all its layers are here.
func (s *Store) image(m manifest) (*Image, error) {
	img := &Image{Digest: m.Digest, Ref: m.Ref, Config: m.Config, SizeBytes: m.SizeBytes}
	for _, d := range m.Layers {
		dir := s.layerDir(d)
		if !exists(dir) {
			return nil, fs.ErrNotExist
		}
		img.Layers = append(img.Layers, dir)
	}
	return img, nil
}

func (s *Store) keep(r types.ImageRef, m manifest) error {
	b, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), "image-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.manifestPath(r))
}

// List answers the images that are here, by reference.
func (s *Store) List(context.Context) ([]*Image, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "images", "*.json"))
	if err != nil {
		return nil, failed("list images", err)
	}
	list := []*Image{}
	for _, p := range paths {
		if img, err := s.read(p); err == nil {
			list = append(list, img)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Ref < list[j].Ref })
	return list, nil
}

// Remove forgets an image and the layers that no other image has. The caller
// makes sure that no VM uses it.
func (s *Store) Remove(_ context.Context, digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths, err := filepath.Glob(filepath.Join(s.dir, "images", "*.json"))
	if err != nil {
		return failed("remove an image", err)
	}
	kept, gone := map[string]bool{}, map[string]bool{}
	found := false
	for _, p := range paths {
		img, err := s.read(p)
		if err != nil {
			continue
		}
		layers := kept
		if img.Digest == digest {
			found, layers = true, gone
			if err := os.Remove(p); err != nil {
				return failed("remove an image", err)
			}
		}
		for _, l := range img.Layers {
			layers[l] = true
		}
	}
	if !found {
		return types.Errorf(types.KindNotFound, "there is no image %s here", digest)
	}
	for l := range gone {
		if !kept[l] {
			if err := os.RemoveAll(l); err != nil {
				return failed("remove a layer", err)
			}
		}
	}
	return nil
}

// treeSize is the bytes of all files in a folder.
func treeSize(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
