// Package gvisor runs VMs as gVisor sandboxes: runsc on the systrap platform,
// with cgroup limits, a network namespace of their own, and a size-limited
// writable disk over their image's read-only layers. It needs root and no KVM.
//
// All that a VM holds on this host is named by its id and kept below the data
// folder, so that any later process finds, adopts or removes it.
package gvisor

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/network"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// Name is the runtime's name in VM specs.
const Name = "gvisor"

// Config is what the runtime works with.
type Config struct {
	DataDir   string // absolute; VMs live in its folder vms
	RunscPath string // absolute
	AgentPath string // the static guest agent for this machine, absolute
	Network   *network.Manager
	Log       *slog.Logger
}

// Runtime implements runtime.Runtime.
type Runtime struct {
	Config
	runsc runsc
	turns turns
	// after, if set, is told of each step of a Create or a Start that is done, and
	// makes it fail by an error: tests break off at every one.
	after func(step string) error
}

var _ runtime.Runtime = (*Runtime)(nil)

// New makes the runtime; nothing is run yet.
func New(cfg Config) (*Runtime, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.Log = cfg.Log.With("runtime", Name)
	for field, path := range map[string]string{"data_dir": cfg.DataDir, "runsc": cfg.RunscPath, "agent": cfg.AgentPath} {
		if !filepath.IsAbs(path) {
			return nil, types.InvalidField(field, path, "is no absolute path", "give the whole path")
		}
	}
	r := &Runtime{Config: cfg}
	r.runsc = runsc{path: cfg.RunscPath, root: filepath.Join(cfg.DataDir, "runsc")}
	for _, dir := range []string{r.vmsDir(), r.templatesDir(), r.runsc.root} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, types.Errorf(types.KindUnavailable, "gvisor: %w", err)
		}
	}
	adoptOrphans()
	return r, nil
}

// Name implements runtime.Runtime.
func (r *Runtime) Name() string { return Name }

func (r *Runtime) vmsDir() string { return filepath.Join(r.DataDir, "vms") }

// vm is one VM's place on disk.
type vm struct {
	id  string
	dir string
}

var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,63}$`)

func (r *Runtime) vm(id string) (vm, error) {
	if !validID.MatchString(id) {
		return vm{}, types.InvalidField("id", id, "is no VM id", "use letters, digits and dashes")
	}
	return vm{id: id, dir: filepath.Join(r.vmsDir(), id)}, nil
}

func (v vm) path(name string) string { return filepath.Join(v.dir, name) }

// List implements runtime.Runtime.
func (r *Runtime) List(context.Context) ([]runtime.Instance, error) {
	entries, err := os.ReadDir(r.vmsDir())
	if err != nil {
		return nil, types.Errorf(types.KindUnavailable, "list this host's VMs: %w", err)
	}
	list := []runtime.Instance{}
	for _, e := range entries {
		v, err := r.vm(e.Name())
		if err != nil {
			continue
		}
		list = append(list, r.look(v))
	}
	return list, nil
}

// look tells a VM's state from what is there of it.
func (r *Runtime) look(v vm) runtime.Instance {
	inst := runtime.Instance{ID: v.id, State: runtime.StateBroken}
	rec, err := v.load()
	if err != nil {
		return inst
	}
	inst.IP = rec.IP
	switch s := r.sandbox(v); {
	case rec.Stopped:
		inst.State = runtime.StateStopped
	case !s.alive():
		inst.State = runtime.StateBroken
	case s.paused:
		inst.State = runtime.StatePaused
	default:
		inst.State = runtime.StateRunning
	}
	return inst
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Probe implements runtime.Runtime: it runs a program in a sandbox to its end.
func (r *Runtime) Probe(ctx context.Context) types.RuntimeStatus {
	status := types.RuntimeStatus{Name: Name, Capabilities: []string{string(runtime.CapPause), string(runtime.CapRestart), string(runtime.CapNetwork)}}
	fail := func(reason string) types.RuntimeStatus {
		status.Reason = reason
		return status
	}
	if os.Geteuid() != 0 {
		return fail("needs root, for namespaces, mounts and cgroups: run aetherium as root")
	}
	version, err := r.runsc.version(ctx)
	if err != nil {
		return fail("runsc does not run (" + err.Error() + "): build it with make build, or put an official runsc on PATH")
	}
	status.Version = version
	if err := loopUsable(); err != nil {
		return fail(err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	said, err := r.runsc.trial(ctx, r.AgentPath)
	if err != nil {
		return fail("a trial sandbox did not run: " + err.Error())
	}
	if strings.TrimSpace(said) == "" {
		return fail("a trial sandbox ran without a word: see runsc's own requirements")
	}
	status.Proven = true
	return status
}
