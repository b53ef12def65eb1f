package types

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The limits of what a client may ask for, and the platform's defaults.
const (
	MaxVCPUs     = 64
	MinMemoryMiB = 64
	MaxMemoryMiB = 1 << 20
	MinDiskMiB   = 64
	MaxDiskMiB   = 1 << 24

	DefaultVCPUs     = 1
	DefaultMemoryMiB = 512
	DefaultDiskMiB   = 10240
	DefaultImage     = "host"

	// DefaultOutputLimit and MaxOutputLimit bound the output that is kept of one
	// exec, both streams together, in bytes.
	DefaultOutputLimit = 16 << 20
	MaxOutputLimit     = 256 << 20

	MaxExecTimeout = 30 * 24 * time.Hour

	maxLabels     = 64
	maxLabelKey   = 63
	maxLabelValue = 255
	maxEnv        = 1024
	maxArgs       = 4096
	// maxString is what execve takes in one string (MAX_ARG_STRLEN of
	// linux/binfmts.h, 32 pages, with its final NUL).
	maxString = 32*4096 - 1
	// maxStrings bounds arguments and environment together; execve's own limit
	// is a quarter of the stack's, 2 MiB by default.
	maxStrings = 1 << 20
)

var (
	namePattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	runtimePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	labelPattern   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)
)

// ValidName reports whether s can be a VM's name.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// ApplyDefaults fills what the client left open, but for the runtime: that is
// placement's to choose.
func (s *VMSpec) ApplyDefaults() {
	if s.Name == "" {
		s.Name = MakeName()
	}
	if s.Image == "" {
		s.Image = DefaultImage
	}
	if s.VCPUs == 0 {
		s.VCPUs = DefaultVCPUs
	}
	if s.MemoryMiB == 0 {
		s.MemoryMiB = DefaultMemoryMiB
	}
	if s.DiskMiB == 0 {
		s.DiskMiB = DefaultDiskMiB
	}
	if s.Network == "" {
		s.Network = NetworkNAT
	}
}

// Validate answers everything that is wrong with the spec as one error of
// KindInvalid, with the fields named. Zero values are right: they are defaults.
func (s *VMSpec) Validate() error {
	var bad FieldErrors
	if s.Name != "" && !ValidName(s.Name) {
		bad.add("name", s.Name, "is no valid name",
			"use 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
	}
	if s.Image != "" {
		bad.image("image", s.Image)
	}
	if s.Runtime != "" && !runtimePattern.MatchString(s.Runtime) {
		bad.add("runtime", s.Runtime, "is no runtime's name", `leave it empty, or name one that GET /api/v1/workers shows, as "gvisor"`)
	}
	bad.size("vcpus", s.VCPUs, 1, MaxVCPUs, DefaultVCPUs)
	bad.size("memory_mib", s.MemoryMiB, MinMemoryMiB, MaxMemoryMiB, DefaultMemoryMiB)
	bad.size("disk_mib", s.DiskMiB, MinDiskMiB, MaxDiskMiB, DefaultDiskMiB)
	bad.env("env", s.Env)
	bad.labels("labels", s.Labels)
	bad.labels("placement", s.Placement)
	switch s.Network {
	case "", NetworkNAT, NetworkNone:
	default:
		bad.add("network", s.Network, "is no network mode", `use "nat" or "none"`)
	}
	return bad.Err()
}

// ApplyDefaults fills what the client left open.
func (s *ExecSpec) ApplyDefaults() {
	if s.OutputLimit == 0 {
		s.OutputLimit = DefaultOutputLimit
	}
	if s.TTY && s.Rows == 0 {
		s.Rows = 24
	}
	if s.TTY && s.Cols == 0 {
		s.Cols = 80
	}
}

// Validate answers everything that is wrong with the spec as one error of
// KindInvalid, with the fields named.
func (s *ExecSpec) Validate() error {
	var bad FieldErrors
	switch {
	case strings.TrimSpace(s.Command) == "":
		bad.add("command", s.Command, "is empty", `name the program to run, as "/bin/ls"; its arguments go into args`)
	default:
		bad.path("command", s.Command)
	}
	bad.args(s.Args)
	bad.env("env", s.Env)
	bad.total(s)
	if s.Cwd != "" {
		bad.path("cwd", s.Cwd)
		if !path.IsAbs(s.Cwd) {
			bad.add("cwd", s.Cwd, "is not absolute", "begin it with /")
		}
	}
	if strings.IndexFunc(s.User, isOdd) >= 0 || len(s.User) > 128 {
		bad.add("user", s.User, "is no user", "use name, uid, name:group or uid:gid")
	}
	if s.Stdin != "" && len(s.StdinBase64) > 0 {
		bad.add("stdin_base64", fmt.Sprintf("%d bytes", len(s.StdinBase64)), "cannot be given together with stdin", "send one of the two")
	}
	bad.terminal(s)
	if s.Timeout < 0 || time.Duration(s.Timeout) > MaxExecTimeout {
		bad.add("timeout", time.Duration(s.Timeout), "is out of range", fmt.Sprintf(`use 0 for none, or up to %s, as "90s"`, MaxExecTimeout))
	}
	if s.OutputLimit < 0 || s.OutputLimit > MaxOutputLimit {
		bad.add("output_limit_bytes", s.OutputLimit, "is out of range",
			fmt.Sprintf("use 1 to %d, or leave it out for %d", MaxOutputLimit, DefaultOutputLimit))
	}
	return bad.Err()
}

// Validate answers what is wrong with a pull.
func (p *ImagePull) Validate() error {
	var bad FieldErrors
	bad.image("ref", p.Ref)
	return bad.Err()
}

func (f *FieldErrors) image(field, ref string) {
	if ref == "" || len(ref) > 512 || strings.IndexFunc(ref, isOdd) >= 0 {
		f.add(field, ref, "is no image reference", `use "host", a reference as "ubuntu:24.04", or oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR`)
	}
}

func (f *FieldErrors) size(field string, v, least, most, def int) {
	if v != 0 && (v < least || v > most) {
		f.add(field, v, "is out of range", fmt.Sprintf("use %d to %d, or leave it out for %d", least, most, def))
	}
}

// path checks what Linux bounds at PATH_MAX, 4096 bytes with the final NUL.
func (f *FieldErrors) path(field, v string) {
	switch {
	case strings.ContainsRune(v, 0):
		f.add(field, fmt.Sprintf("%q", v), "has a NUL byte in it", "remove it")
	case len(v) > 4095:
		f.add(field, v, fmt.Sprintf("is %d bytes long", len(v)), "use at most 4095 bytes")
	}
}

func (f *FieldErrors) args(args []string) {
	if len(args) > maxArgs {
		f.add("args", len(args), "are too many", fmt.Sprintf("use at most %d; send more data by standard input or a file", maxArgs))
		return
	}
	for i, a := range args {
		f.text(fmt.Sprintf("args[%d]", i), a)
	}
}

func (f *FieldErrors) env(field string, env map[string]string) {
	if len(env) > maxEnv {
		f.add(field, len(env), "has too many variables", fmt.Sprintf("use at most %d", maxEnv))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		at := field + "." + name
		if name == "" || len(name) > 255 || strings.ContainsRune(name, '=') || strings.IndexFunc(name, isOdd) >= 0 {
			f.add(at, name, "is no name for a variable", "use 1 to 255 characters, none of them = or a space")
		}
		f.text(at, env[name])
	}
}

// text checks one string that goes to execve. Its value is not shown: it may be
// a secret.
func (f *FieldErrors) text(field, v string) {
	switch {
	case strings.ContainsRune(v, 0):
		f.add(field, "", "has a NUL byte in it", "remove it; send binary data by standard input or a file")
	case len(v) > maxString:
		f.add(field, fmt.Sprintf("%d bytes", len(v)), "is too long", fmt.Sprintf("use at most %d bytes; send more by standard input or a file", maxString))
	}
}

func (f *FieldErrors) total(s *ExecSpec) {
	n := len(s.Command)
	for _, a := range s.Args {
		n += len(a) + 1
	}
	for k, v := range s.Env {
		n += len(k) + len(v) + 2
	}
	if n > maxStrings {
		f.add("args", fmt.Sprintf("%d bytes", n), "are too long together with env",
			fmt.Sprintf("use at most %d bytes; send more by standard input or a file", maxStrings))
	}
}

func (f *FieldErrors) terminal(s *ExecSpec) {
	for _, d := range []struct {
		field string
		v     int
	}{{"rows", s.Rows}, {"cols", s.Cols}} {
		switch {
		case d.v < 0 || d.v > 65535:
			f.add(d.field, d.v, "is out of range", "use 1 to 65535")
		case d.v > 0 && !s.TTY:
			f.add(d.field, d.v, "has no meaning without a terminal", "set tty to true, or leave it out")
		}
	}
}

func (f *FieldErrors) labels(field string, labels map[string]string) {
	if len(labels) > maxLabels {
		f.add(field, len(labels), "are too many", fmt.Sprintf("use at most %d", maxLabels))
		return
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		at := field + "." + k
		if len(k) > maxLabelKey || !labelPattern.MatchString(k) {
			f.add(at, k, "is no label key",
				fmt.Sprintf("use 1 to %d of letters, digits, and . _ / - between them", maxLabelKey))
		}
		if v := labels[k]; utf8.RuneCountInString(v) > maxLabelValue || strings.IndexFunc(v, unicode.IsControl) >= 0 {
			f.add(at, v, "is no label value", fmt.Sprintf("use at most %d characters, none of them a control character", maxLabelValue))
		}
	}
}

// isOdd reports a character that no name has.
func isOdd(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }
