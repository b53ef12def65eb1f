// Package image turns references into root file systems: it pulls, verifies and
// unpacks OCI and Docker images into content-addressed layers that VMs share,
// and composes the host image from this machine's own /usr. Layers are hostile
// input: nothing an archive names may end up outside its layer.
package image

// Image is a root file system that is ready to be used on this host.
type Image struct {
	Digest string // "sha256:…"; for the host image, of its skeleton and bind list
	Ref    string // as it was asked for
	// Layers are absolute paths of read-only directories in overlayfs form
	// (whiteouts as 0:0 devices, opaque as trusted.overlay.opaque), base first.
	Layers []string
	// Binds are host folders shown read-only in the guest, over the layers.
	Binds     []Bind
	Config    Config
	SizeBytes int64 // unpacked, without Binds
}

// Bind shows a host folder, read-only, at a path in the guest.
type Bind struct {
	HostPath  string
	GuestPath string
}

// Config is what an image says about running its programs.
type Config struct {
	Env  []string // "NAME=value"
	Cwd  string
	User string
}
