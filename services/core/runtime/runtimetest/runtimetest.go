// Package runtimetest is how every runtime must behave, as a suite that each
// driver's test runs unchanged. It checks what a driver claims to be able to do,
// and that it refuses what it does not claim.
package runtimetest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
	"github.com/aetherium/aetherium/services/core/image"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// Host is what the suite needs to know of the place where the runtime runs.
type Host struct {
	// New makes another value of the runtime over the same state, as a worker does
	// that starts again.
	New func() runtime.Runtime
	// Image has sh, coreutils and python3 or perl.
	Image *image.Image
	// Leftovers lists what is on the host that belongs to VMs: processes, mounts,
	// interfaces, namespaces, cgroups, files.
	Leftovers func() []string
}

// Run runs the suite.
func Run(t *testing.T, h Host) {
	rt := h.New()
	if status := rt.Probe(t.Context()); !status.Proven {
		t.Fatalf("runtime %s is not proven: %s", rt.Name(), status.Reason)
	}
	before := h.Leftovers()
	t.Run("suite", func(t *testing.T) {
		for name, test := range map[string]func(*suite){
			"lifecycle": lifecycle, "idempotence": idempotence, "restart": restart, "pause": pause, "adoption": adoption,
			"exec": execs, "files": files, "isolation": isolation, "network": networkReach, "ports": ports,
			"memory": memoryHog, "processes": forkBomb, "disk": diskFull, "responsive": responsive, "unexpected": unexpectedEnd,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(&suite{T: t, Host: h, rt: rt})
			})
		}
	})
	for _, left := range h.Leftovers() {
		if !slices.Contains(before, left) {
			t.Errorf("left behind: %s", left)
		}
	}
}

// suite is one test and its runtime.
type suite struct {
	*testing.T
	Host
	rt runtime.Runtime
}

// machine is a VM of a test and the way in.
type machine struct {
	*suite
	runtime.Spec
	inst  runtime.Instance
	guest *guest.Client
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) kind(err error, want types.Kind) {
	s.Helper()
	if err == nil || types.KindOf(err) != want {
		s.Fatalf("got error %v, want kind %s", err, want)
	}
}

func (s *suite) can(c runtime.Capability) bool {
	return slices.Contains(s.rt.Probe(s.Context()).Capabilities, string(c))
}

func (s *suite) spec() runtime.Spec {
	return runtime.Spec{
		ID: uuid.Must(uuid.NewV7()).String(), Hostname: "suite-vm", Image: s.Image, VCPUs: 1, MemoryMiB: 256, DiskMiB: 256, Network: types.NetworkNAT,
	}
}

// create makes a VM that is deleted with the test.
func (s *suite) create(change ...func(*runtime.Spec)) *machine {
	s.Helper()
	spec := s.spec()
	for _, c := range change {
		c(&spec)
	}
	s.Cleanup(func() {
		if err := s.rt.Delete(context.Background(), spec.ID); err != nil {
			s.Errorf("delete: %v", err)
		}
	})
	inst, err := s.rt.Create(s.Context(), spec)
	s.ok(err)
	m := &machine{suite: s, Spec: spec, inst: inst}
	m.connect()
	return m
}

func (m *machine) connect() {
	m.Helper()
	m.guest = guest.New(func(ctx context.Context) (conn netConn, err error) { return m.rt.Dial(ctx, m.ID) })
	m.Cleanup(m.guest.Close)
	ctx, cancel := context.WithTimeout(m.Context(), 30*time.Second)
	defer cancel()
	_, err := m.guest.WaitReady(ctx, guest.Hello{
		Hostname: m.Hostname, MemoryLimitBytes: int64(m.MemoryMiB) << 20, ProcessLimit: 500, Env: map[string]string{"PATH": envPath(m.Image)},
	})
	m.ok(err)
}

func envPath(img *image.Image) string {
	for _, kv := range img.Config.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			return v
		}
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// outcome is how a command ended and what it wrote.
type outcome struct {
	types.ExecResult
	out, err string
	end      *types.Error
}

// exec runs a command to its end.
func (m *machine) exec(spec types.ExecSpec) outcome {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 2*time.Minute)
	defer cancel()
	id := uuid.NewString()
	_, err := m.guest.Start(ctx, id, spec)
	m.ok(err)
	var stdout, stderr bytes.Buffer
	st, err := m.guest.Follow(ctx, id, 0, false, func(e guest.FollowEvent) error {
		if e.Chunk != nil && e.Chunk.Stream == types.Stdout {
			stdout.Write(e.Chunk.Data)
		} else if e.Chunk != nil {
			stderr.Write(e.Chunk.Data)
		}
		return nil
	})
	m.ok(err)
	return outcome{ExecResult: guest.ResultOf(st), out: stdout.String(), err: stderr.String(), end: guest.ErrorOf(st)}
}

// sh runs a line of shell.
func (m *machine) sh(line string) outcome {
	m.Helper()
	return m.exec(types.ExecSpec{Command: "sh", Args: []string{"-c", line}})
}

// must runs a line of shell that succeeds, and answers its output.
func (m *machine) must(line string) string {
	m.Helper()
	o := m.sh(line)
	if o.ExitCode != 0 {
		m.Fatalf("%q: exit %d %s\n%s%s", line, o.ExitCode, o.Reason, o.out, o.err)
	}
	return strings.TrimSpace(o.out)
}

func (m *machine) equal(got, want any) {
	m.Helper()
	if got != want {
		m.Fatalf("got %v, want %v", got, want)
	}
}
