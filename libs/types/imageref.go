package types

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strings"
)

// ImageScheme is where an image comes from.
type ImageScheme string

// The schemes of image references.
const (
	ImageHost          ImageScheme = "host"           // this host's own /usr
	ImageRegistry      ImageScheme = "registry"       // an OCI reference
	ImageOCI           ImageScheme = "oci"            // an OCI layout folder
	ImageOCIArchive    ImageScheme = "oci-archive"    // the same in a tar
	ImageDockerArchive ImageScheme = "docker-archive" // what docker save writes
	ImageDir           ImageScheme = "dir"            // a root file system folder
)

// ImageRef is an image reference, taken apart.
type ImageRef struct {
	Scheme ImageScheme
	Path   string // of the file or folder; for a registry, the whole reference
	Tag    string // of an OCI layout: a tag or a digest; empty if it has one image
	text   string
}

// String is the reference as it was written.
func (r ImageRef) String() string { return r.text }

// Key names the reference in a file name.
func (r ImageRef) Key() string {
	sum := sha256.Sum256([]byte(r.text))
	return hex.EncodeToString(sum[:16])
}

// registryRef is the grammar of references that registries have: the OCI
// distribution specification, "Pulling manifests", with an optional host and
// port before the name.
var registryRef = regexp.MustCompile(`^(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*(?::[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127})?(?:@sha256:[a-f0-9]{64})?$`)

const imageRemedy = "use host, a registry's reference as debian:12, or oci:DIR, oci-archive:FILE, docker-archive:FILE or dir:DIR with an absolute path on the worker"

// ParseImageRef takes a reference apart, or says what is wrong with it.
func ParseImageRef(s string) (ImageRef, error) {
	if s == string(ImageHost) {
		return ImageRef{Scheme: ImageHost, text: s}, nil
	}
	for _, scheme := range []ImageScheme{ImageOCI, ImageOCIArchive, ImageDockerArchive, ImageDir} {
		path, ok := strings.CutPrefix(s, string(scheme)+":")
		if !ok {
			continue
		}
		r := ImageRef{Scheme: scheme, Path: path, text: s}
		if scheme == ImageOCI {
			if i := strings.LastIndexAny(path, ":@"); i > strings.LastIndex(path, "/") {
				// The digest's own colon comes after its @.
				if at := strings.LastIndex(path[:i], "@"); at > strings.LastIndex(path, "/") {
					i = at
				}
				r.Path, r.Tag = path[:i], path[i+1:]
			}
		}
		if !filepath.IsAbs(r.Path) || strings.ContainsRune(r.Path, 0) {
			return r, InvalidField("image", s, "has no absolute path", imageRemedy)
		}
		return r, nil
	}
	if !registryRef.MatchString(s) {
		return ImageRef{}, InvalidField("image", s, "is no image reference", imageRemedy)
	}
	return ImageRef{Scheme: ImageRegistry, Path: s, text: s}, nil
}
