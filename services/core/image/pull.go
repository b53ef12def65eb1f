package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sync/errgroup"

	"github.com/aetherium/aetherium/libs/types"
)

// pullShared pulls once for all who ask at the same time. The pull goes on while
// anybody waits for it.
func (s *Store) pullShared(ctx context.Context, r types.ImageRef, progress func(Progress)) (*Image, error) {
	done := s.pulling.DoChan(r.String(), func() (any, error) {
		return s.pull(context.WithoutCancel(ctx), r, progress)
	})
	select {
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*Image), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *Store) pull(ctx context.Context, r types.ImageRef, progress func(Progress)) (*Image, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	progress(Progress{Phase: "resolve"})
	if r.Scheme == types.ImageDir {
		return s.importDir(r)
	}
	img, done, err := s.open(ctx, r)
	if err != nil {
		return nil, explain(r, err)
	}
	defer done()
	m, err := s.unpackAll(ctx, r, img, progress)
	if err != nil {
		return nil, explain(r, err)
	}
	if err := s.keep(r, m); err != nil {
		return nil, failed("keep image "+r.String(), err)
	}
	return s.image(m)
}

// open finds what a reference means. What it answers is read until done.
func (s *Store) open(ctx context.Context, r types.ImageRef) (img v1.Image, done func(), err error) {
	done = func() {}
	switch r.Scheme {
	case types.ImageRegistry:
		ref, err := name.ParseReference(r.Path)
		if err != nil {
			return nil, done, types.InvalidField("image", r.Path, "is no image reference", "use one like debian:12")
		}
		img, err = remote.Image(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithPlatform(platform()))
		return img, done, err
	case types.ImageDockerArchive:
		img, err = tarball.ImageFromPath(r.Path, nil)
		return img, done, err
	case types.ImageOCI:
		img, err = fromLayout(r.Path, r.Tag)
		return img, done, err
	case types.ImageOCIArchive:
		tmp, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), "layout-*")
		if err != nil {
			return nil, done, err
		}
		done = func() { _ = os.RemoveAll(tmp) }
		if err := unpackLayout(r.Path, tmp); err != nil {
			return nil, done, err
		}
		img, err = fromLayout(tmp, "")
		return img, done, err
	}
	return nil, done, types.Errorf(types.KindUnsupported, "images of scheme %s cannot be pulled", r.Scheme)
}

func platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: goruntime.GOARCH} }

// fromLayout finds an image in an OCI layout: by tag or digest, or the only one
// that there is for this machine.
func fromLayout(dir, tag string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	const refName = "org.opencontainers.image.ref.name" // OCI image specification, annotations
	var found []v1.Descriptor
	for _, d := range m.Manifests {
		if tag == "" || d.Annotations[refName] == tag || d.Digest.String() == tag {
			found = append(found, d)
		}
	}
	if len(found) > 1 {
		want := platform()
		var fit []v1.Descriptor
		for _, d := range found {
			if d.Platform != nil && d.Platform.Satisfies(want) {
				fit = append(fit, d)
			}
		}
		found = fit
	}
	if len(found) != 1 {
		return nil, types.Errorf(types.KindNotFound, "the layout has %d images that %q could mean", len(found), tag).WithRemedy("name one by its tag: oci:DIR:TAG")
	}
	if found[0].MediaType.IsIndex() {
		inner, err := index.ImageIndex(found[0].Digest)
		if err != nil {
			return nil, err
		}
		im, err := inner.IndexManifest()
		if err != nil {
			return nil, err
		}
		for _, d := range im.Manifests {
			if d.Platform != nil && d.Platform.Satisfies(platform()) {
				return inner.Image(d.Digest)
			}
		}
		return nil, wrongPlatform("none of its platforms")
	}
	return index.Image(found[0].Digest)
}

func wrongPlatform(what string) error {
	return types.Errorf(types.KindUnsupported, "the image is for %s, this worker is linux/%s", what, goruntime.GOARCH).
		WithRemedy("use an image that is built for this architecture too")
}

// unpackAll brings every layer of an image here.
func (s *Store) unpackAll(ctx context.Context, r types.ImageRef, img v1.Image, progress func(Progress)) (manifest, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return manifest{}, err
	}
	if a := config.Architecture; (a != "" && a != goruntime.GOARCH) || (config.OS != "" && config.OS != "linux") {
		return manifest{}, wrongPlatform(config.OS + "/" + a)
	}
	digest, err := img.Digest()
	if err != nil {
		return manifest{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return manifest{}, err
	}
	m := manifest{
		Ref: r.String(), Digest: digest.String(), Layers: make([]string, len(layers)), PulledAt: time.Now().UTC(),
		Config: Config{Env: config.Config.Env, Cwd: config.Config.WorkingDir, User: config.Config.User},
	}
	meter := &meter{tell: progress}
	for _, l := range layers {
		if size, err := l.Size(); err == nil {
			meter.total += size
		}
	}
	limit := &limits{bytes: s.opts.MaxBytes, entries: int64(s.opts.MaxEntries)}
	g, ctx := errgroup.WithContext(ctx)
	const atOnce = 3
	g.SetLimit(atOnce)
	for i, l := range layers {
		g.Go(func() (err error) {
			m.Layers[i], err = s.unpackLayer(ctx, l, limit, meter)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return m, err
	}
	for _, d := range m.Layers {
		m.SizeBytes += treeSize(s.layerDir(d))
	}
	return m, nil
}

// unpackLayer brings a layer here, if it is not, and answers the digest of its
// unpacked tar.
func (s *Store) unpackLayer(ctx context.Context, l v1.Layer, limit *limits, meter *meter) (string, error) {
	diff, err := l.DiffID()
	if err != nil {
		return "", err
	}
	// One layer is unpacked once, also if several images bring it at a time.
	_, err, _ = s.pulling.Do(diff.String(), func() (any, error) {
		if exists(s.layerDir(diff.String())) {
			return nil, nil
		}
		return nil, s.install(s.layerDir(diff.String()), func(tmp string) error {
			tar, err := l.Uncompressed() // it checks the digest as it is read to its end
			if err != nil {
				return err
			}
			defer func() { _ = tar.Close() }()
			from := &counter{from: tar, ctx: ctx, meter: meter}
			if err := extract(from, tmp, limit); err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, from)
			return err
		})
	})
	return diff.String(), err
}

// meter adds up what all layers have read, and tells of it now and then.
type meter struct {
	tell  func(Progress)
	total int64
	done  atomic.Int64
	last  atomic.Int64 // when it was told last, in ms
}

// counter reads a layer, counts, and stops when the pull is not wanted any more.
type counter struct {
	from  io.Reader
	ctx   context.Context
	meter *meter
}

// Read implements io.Reader.
func (c *counter) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.from.Read(b)
	done := c.meter.done.Add(int64(n))
	const every = 200 // ms
	if now, last := time.Now().UnixMilli(), c.meter.last.Load(); now-last > every && c.meter.last.CompareAndSwap(last, now) {
		c.meter.tell(Progress{Phase: "unpack", Done: done, Total: c.meter.total})
	}
	return n, err
}

// importDir copies a folder into a layer of its own. The digest is of the copy's
// content, so the same folder is one layer however often it comes.
func (s *Store) importDir(r types.ImageRef) (*Image, error) {
	info, err := os.Stat(r.Path)
	if err != nil || !info.IsDir() {
		return nil, types.Errorf(types.KindNotFound, "there is no folder %s on this worker", r.Path)
	}
	from, to := io.Pipe()
	go func() { _ = to.CloseWithError(packDir(to, r.Path)) }()
	defer func() { _ = from.Close() }()
	sum := newDigester(from)
	tmp, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), "dir-*")
	if err != nil {
		return nil, failed("import "+r.Path, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, failed("import "+r.Path, err)
	}
	if err := extract(sum, tmp, &limits{bytes: s.opts.MaxBytes, entries: int64(s.opts.MaxEntries)}); err != nil {
		return nil, failed("import "+r.Path, err)
	}
	digest, err := sum.digest()
	if err != nil {
		return nil, failed("import "+r.Path, err)
	}
	dir := s.layerDir(digest)
	if err := os.Rename(tmp, dir); err != nil && !exists(dir) {
		return nil, failed("import "+r.Path, err)
	}
	m := manifest{Ref: r.String(), Digest: digest, Layers: []string{digest}, SizeBytes: treeSize(dir), PulledAt: time.Now().UTC()}
	if err := s.keep(r, m); err != nil {
		return nil, failed("import "+r.Path, err)
	}
	return s.image(m)
}

// explain gives an error of a pull its kind, and the words for it.
func explain(r types.ImageRef, err error) error {
	if _, ok := errors.AsType[*types.Error](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, os.ErrNotExist) && r.Scheme != types.ImageRegistry {
		return types.Errorf(types.KindNotFound, "there is no %s on this worker: %w", r.Path, err)
	}
	if refusal, ok := errors.AsType[*transport.Error](err); ok {
		return explainRefusal(r, refusal)
	}
	var network net.Error
	if errors.As(err, &network) {
		return types.Errorf(types.KindUnavailable, "the registry of image %s cannot be reached: %w", r, err).
			WithRemedy("check the name, and that the worker can reach the registry")
	}
	return failed(fmt.Sprintf("pull image %s", r), err)
}

func explainRefusal(r types.ImageRef, e *transport.Error) error {
	switch {
	case e.StatusCode == http.StatusNotFound:
		return types.Errorf(types.KindNotFound, "the registry has no image %s", r).WithRemedy("check the name and the tag")
	case e.StatusCode == http.StatusUnauthorized, e.StatusCode == http.StatusForbidden:
		return types.Errorf(types.KindNotFound, "the registry does not give out image %s: it does not exist, or needs credentials", r).
			WithRemedy("check the name, and log in on the worker with docker login: its ~/.docker/config.json is used")
	case e.StatusCode == http.StatusTooManyRequests, e.StatusCode >= http.StatusInternalServerError:
		return types.Errorf(types.KindUnavailable, "the registry of image %s answers %d now", r, e.StatusCode)
	}
	return types.Errorf(types.KindInternal, "the registry of image %s refuses: %w", r, e)
}
