package runtimetest

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/guest"
	"github.com/aetherium/aetherium/services/core/runtime"
)

func execs(s *suite) {
	m := s.create()
	o := m.sh("echo out; echo err >&2; exit 3")
	m.equal(o.out, "out\n")
	m.equal(o.err, "err\n")
	m.equal(o.ExitCode, 3)
	m.equal(m.exec(types.ExecSpec{Command: "no-such-program"}).ExitCode, 127)
	m.equal(m.exec(types.ExecSpec{Command: "/etc/passwd"}).ExitCode, 126)
	m.equal(m.exec(types.ExecSpec{Command: "cat", Stdin: "in\n"}).out, "in\n")
	m.equal(strings.TrimSpace(m.exec(types.ExecSpec{Command: "id", Args: []string{"-un"}, User: "nobody"}).out), "nobody")
	m.equal(strings.TrimSpace(m.exec(types.ExecSpec{Command: "pwd", Cwd: "/usr"}).out), "/usr")
	m.equal(strings.TrimSpace(m.exec(types.ExecSpec{Command: "stty", Args: []string{"size"}, TTY: true, Rows: 33, Cols: 99}).out), "33 99")
	o = m.exec(types.ExecSpec{Command: "sleep", Args: []string{"100"}, Timeout: types.Duration(200 * time.Millisecond)})
	if o.end == nil || o.end.Kind != types.KindTimeout {
		s.Fatalf("a time-out ended as %+v", o)
	}
	began := time.Now()
	o = m.sh("sleep 100 & echo done")
	m.equal(o.out, "done\n")
	if !o.OutputLeftOpen || time.Since(began) > 20*time.Second {
		s.Fatalf("a grandchild held the end for %v (%+v)", time.Since(began), o)
	}
	// Orphans are collected.
	m.must("for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; sleep 0.5; ! ps -e -o stat= 2>/dev/null | grep -q Z")
}

func files(s *suite) {
	m := s.create()
	_, err := m.guest.Write(s.Context(), guest.WriteOptions{Path: "/root/a/b", MakeParents: true, Mode: 0o600}, strings.NewReader("content"))
	s.ok(err)
	m.equal(m.must("cat /root/a/b; stat -c %a /root/a/b"), "content600")
	var back strings.Builder
	s.ok(m.guest.Read(s.Context(), "/root/a/b", 0, 0, &back))
	m.equal(back.String(), "content")
	s.kind(m.guest.Read(s.Context(), "/nowhere", 0, 0, io.Discard), types.KindNotFound)
	// Programs of the image cannot be changed for others.
	if len(m.Image.Binds) > 0 {
		if o := m.sh("touch /usr/bin/mine"); o.ExitCode == 0 {
			s.Fatal("the guest can write to the host's programs")
		}
	}
	m.must("echo x > /tmp/t && echo y > /etc/own && test -w /dev/null && test -r /proc/meminfo && ls /dev/pts")
}

// isolation looks for what a guest must not see.
func isolation(s *suite) {
	m, other := s.create(), s.create()
	secret, err := os.CreateTemp("", "host-secret-*")
	s.ok(err)
	s.Cleanup(func() { _ = os.Remove(secret.Name()) })
	s.ok(secret.Close())
	for _, path := range []string{secret.Name(), "/var/run/docker.sock", "/run/docker.sock", "/root/.ssh", "/root/.docker", "/etc/shadow-", "/proc/1/root/host"} {
		if o := m.sh("test -e " + path); o.ExitCode == 0 {
			s.Errorf("the guest sees the host's %s", path)
		}
	}
	if hostPid := os.Getpid(); m.sh(fmt.Sprintf("kill -0 %d", hostPid)).ExitCode == 0 {
		// A process of that number may be the guest's own.
		if strings.Contains(m.sh(fmt.Sprintf("cat /proc/%d/cmdline", hostPid)).out, "test") {
			s.Error("the guest sees the host's processes")
		}
	}
	m.must("echo mine > /root/mine")
	if other.sh("test -e /root/mine").ExitCode == 0 {
		s.Error("one VM sees another's files")
	}
	mem := m.must("awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo")
	var mib int
	if _, err := fmt.Sscan(mem, &mib); err != nil || mib < m.MemoryMiB/2 || mib > 2*m.MemoryMiB+256 {
		s.Errorf("the guest sees %s MiB of memory and was given %d", mem, m.MemoryMiB)
	}
	// A runtime may show a processor more than the quota has, but not the host's all.
	m.equal(m.must("test $(nproc) -le 2 && echo few"), "few")
}

func memoryHog(s *suite) {
	m := s.create()
	o := m.sh("a=x; while true; do a=$a$a; done")
	if o.ExitCode == 0 {
		s.Fatalf("a memory hog ended well: %+v", o)
	}
	m.survivedOr(types.KindOutOfMemory, o)
}

// survivedOr accepts either that the VM lives and its command was ended typed, or
// that the VM was ended with the reason.
func (m *machine) survivedOr(kind types.Kind, o outcome) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 10*time.Second)
	defer cancel()
	if _, err := m.guest.Stats(ctx); err == nil {
		if o.end == nil && o.ExitCode == 0 {
			m.Fatalf("the command ended as if nothing were: %+v", o)
		}
		m.must("echo alive")
		return
	}
	exit, err := m.rt.Wait(ctx, m.ID)
	m.ok(err)
	if exit.Kind != kind {
		m.Fatalf("the VM ended by %+v, want %s", exit, kind)
	}
}

func forkBomb(s *suite) {
	m := s.create()
	_, err := m.guest.Start(s.Context(), "bomb", types.ExecSpec{Command: "sh", Args: []string{"-c", "f() { f | f & f; }; f"}, Timeout: types.Duration(20 * time.Second)})
	s.ok(err)
	st, err := m.guest.Follow(s.Context(), "bomb", 0, false, func(guest.FollowEvent) error { return nil })
	o := outcome{}
	if err == nil {
		o = outcome{ExecResult: guest.ResultOf(st), end: guest.ErrorOf(st)}
	}
	m.survivedOr(types.KindOutOfMemory, o)
}

func diskFull(s *suite) {
	m := s.create(func(spec *runtime.Spec) { spec.DiskMiB = 64 })
	o := m.sh("dd if=/dev/zero of=/root/fill bs=1M count=200")
	if o.ExitCode == 0 || !strings.Contains(o.err, "No space left") {
		s.Fatalf("a disk of 64 MiB took 200: %+v", o)
	}
	m.equal(m.must("rm /root/fill; echo alive"), "alive")
}

// responsive checks that the agent answers while the guest is busy.
func responsive(s *suite) {
	m := s.create()
	id := "busy"
	_, err := m.guest.Start(s.Context(), id, types.ExecSpec{Command: "sh", Args: []string{"-c", "for i in 1 2 3 4; do while :; do :; done & done; wait"}})
	s.ok(err)
	for range 20 {
		ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
		_, err := m.guest.Get(ctx, id)
		cancel()
		s.ok(err)
	}
	s.ok(m.guest.Signal(s.Context(), id, 9, false))
}
