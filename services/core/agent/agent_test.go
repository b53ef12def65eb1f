package agent_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/aetherium/aetherium/libs/agentapi"
	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/agent"
	"github.com/aetherium/aetherium/services/core/guest"
)

// TestMain is the agent itself where a test has started it so: it collects every
// child of its process, and must have one of its own.
func TestMain(m *testing.M) {
	if socket := os.Getenv("AGENT_SOCKET"); socket != "" {
		os.Exit(agent.Main(context.Background(), "test", []string{"--listen", "unix:" + socket}, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func start(t *testing.T) *guest.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AGENT_SOCKET="+socket)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	c := guest.New(func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", socket) })
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.WaitReady(ctx, guest.Hello{Env: map[string]string{"FROM_VM": "vm"}}); err != nil {
		t.Fatal(err)
	}
	return c
}

type ended struct {
	*agentapi.ExecStatus
	out, err string
}

func follow(t *testing.T, c *guest.Client, id string, offset int64) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var e ended
	var out, errOut bytes.Buffer
	st, err := c.Follow(ctx, id, offset, false, func(ev guest.FollowEvent) error {
		if ev.Chunk != nil && ev.Chunk.Stream == types.Stderr {
			errOut.Write(ev.Chunk.Data)
		} else if ev.Chunk != nil {
			out.Write(ev.Chunk.Data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.ExecStatus, e.out, e.err = st, out.String(), errOut.String()
	return e
}

func run(t *testing.T, c *guest.Client, spec types.ExecSpec) ended {
	t.Helper()
	id := uuid.NewString()
	if _, err := c.Start(t.Context(), id, spec); err != nil {
		t.Fatal(err)
	}
	return follow(t, c, id, 0)
}

func sh(line string) types.ExecSpec { return types.ExecSpec{Command: "sh", Args: []string{"-c", line}} }

func TestExec(t *testing.T) {
	c := start(t)
	for name, test := range map[string]struct {
		spec types.ExecSpec
		code int32
		out  string
	}{
		"both streams":   {sh("echo out; echo err >&2; exit 3"), 3, "out\n"},
		"signal":         {sh("kill -TERM $$"), 128 + 15, ""},
		"not found":      {types.ExecSpec{Command: "no-such-program"}, 127, ""},
		"a folder":       {types.ExecSpec{Command: "/etc"}, 126, ""},
		"not executable": {types.ExecSpec{Command: "/etc/hostname"}, 126, ""},
		"no cwd":         {types.ExecSpec{Command: "true", Cwd: "/no/where"}, 126, ""},
		"no user":        {types.ExecSpec{Command: "true", User: "nobody-has-this-name"}, 126, ""},
		"arguments":      {types.ExecSpec{Command: "printf", Args: []string{"%s|", "a b", "", "$HOME"}}, 0, "a b||$HOME|"},
		"environment":    {types.ExecSpec{Command: "sh", Args: []string{"-c", "echo $FROM_VM $OWN"}, Env: map[string]string{"OWN": "own"}}, 0, "vm own\n"},
		"stdin":          {types.ExecSpec{Command: "cat", StdinBase64: []byte{0, 0xff, '\n'}}, 0, "\x00\xff\n"},
		"no stdin":       {types.ExecSpec{Command: "cat"}, 0, ""},
		"terminal":       {types.ExecSpec{Command: "stty", Args: []string{"size"}, TTY: true, Rows: 11, Cols: 22}, 0, "11 22\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := run(t, c, test.spec)
			if e.GetExitCode() != test.code || e.out != test.out {
				t.Fatalf("exit %d (%s), output %q; want %d, %q", e.GetExitCode(), e.GetMessage(), e.out, test.code, test.out)
			}
			if (test.code == 127 || test.code == 126) && e.GetMessage() == "" {
				t.Fatal("no reason")
			}
		})
	}
}

func TestStartTwiceRunsOnce(t *testing.T) {
	c := start(t)
	file := filepath.Join(t.TempDir(), "ran")
	for range 3 {
		if _, err := c.Start(t.Context(), "same", sh("echo x >> "+file)); err != nil {
			t.Fatal(err)
		}
	}
	follow(t, c, "same", 0)
	if b, _ := os.ReadFile(file); string(b) != "x\n" {
		t.Fatalf("ran as %q", b)
	}
}

func TestTimeoutKillsTheGroup(t *testing.T) {
	c := start(t)
	spec := sh("sleep 300 & echo $!; wait")
	spec.Timeout = types.Duration(300 * time.Millisecond)
	e := run(t, c, spec)
	if e.GetEndReason() != agentapi.EndReason_END_REASON_TIMEOUT || guest.ErrorOf(e.ExecStatus).Kind != types.KindTimeout {
		t.Fatalf("ended as %v", e.ExecStatus)
	}
	gone := time.Now().Add(10 * time.Second)
	for {
		if _, err := os.Stat("/proc/" + strings.TrimSpace(e.out)); err != nil {
			return
		}
		if time.Now().After(gone) {
			t.Fatal("the grandchild lives on")
		}
	}
}

func TestGrandchildDoesNotHoldTheEnd(t *testing.T) {
	c := start(t)
	began := time.Now()
	e := run(t, c, sh("sleep 60 & echo done"))
	if !e.GetOutputLeftOpen() || e.out != "done\n" || time.Since(began) > 20*time.Second {
		t.Fatalf("%q after %v: %v", e.out, time.Since(began), e.ExecStatus)
	}
}

func TestStdinByOffset(t *testing.T) {
	c := start(t)
	if _, err := c.Start(t.Context(), "cat", types.ExecSpec{Command: "cat", StdinOpen: true}); err != nil {
		t.Fatal(err)
	}
	write := func(offset int64, data string, eof bool) int64 {
		t.Helper()
		n, err := c.WriteStdin(t.Context(), "cat", offset, []byte(data), eof)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	write(0, "abc", false)
	if n := write(0, "abcdef", false); n != 6 { // the first three again
		t.Fatalf("accepted %d", n)
	}
	if _, err := c.WriteStdin(t.Context(), "cat", 99, []byte("x"), false); types.KindOf(err) != types.KindInvalid {
		t.Fatalf("a gap in the input: %v", err)
	}
	write(6, "", true)
	if e := follow(t, c, "cat", 0); e.out != "abcdef" {
		t.Fatalf("got %q", e.out)
	}
}

func TestFollowFromOffsetAndForget(t *testing.T) {
	c := start(t)
	if _, err := c.Start(t.Context(), "f", sh("printf 0123456789")); err != nil {
		t.Fatal(err)
	}
	if e := follow(t, c, "f", 0); e.out != "0123456789" {
		t.Fatalf("all: %q", e.out)
	}
	if e := follow(t, c, "f", 7); e.out != "789" {
		t.Fatalf("from 7: %q", e.out)
	}
	if err := c.Forget(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "f"); types.KindOf(err) != types.KindNotFound {
		t.Fatalf("forgotten, and yet %v", err)
	}
}

// TestFlood writes far more than is kept: attached, all of it arrives; else it is cut and
// counted.
func TestFlood(t *testing.T) {
	c := start(t)
	const size = 64 << 20
	flood := types.ExecSpec{Command: "head", Args: []string{"-c", "67108864", "/dev/zero"}, OutputLimit: 1 << 20}
	e := run(t, c, flood)
	if !e.GetOutputTruncated() || e.GetStdoutBytes() != size || len(e.out) > 1<<20 {
		t.Fatalf("%d bytes of %d, truncated %v", len(e.out), e.GetStdoutBytes(), e.GetOutputTruncated())
	}
	if _, err := c.Start(t.Context(), "attached", types.ExecSpec{Command: "sh", Args: []string{"-c", "sleep 0.3; exec head -c 67108864 /dev/zero"}, OutputLimit: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	var got int64
	st, err := c.Follow(t.Context(), "attached", 0, true, func(e guest.FollowEvent) error {
		if e.Gap != nil {
			t.Errorf("a gap of %d", e.Gap.Length)
		} else {
			got += int64(len(e.Chunk.Data))
		}
		return nil
	})
	if err != nil || got != size || st.GetOutputTruncated() {
		t.Fatalf("%d bytes arrived, %v", got, err)
	}
}

func TestFiles(t *testing.T) {
	c := start(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "new/file")
	if _, err := c.Write(t.Context(), guest.WriteOptions{Path: path, Mode: 0o640, MakeParents: true}, strings.NewReader("text")); err != nil {
		t.Fatal(err)
	}
	info, err := c.Stat(t.Context(), path, false)
	if err != nil || info.GetSize() != 4 || info.GetMode() != 0o640 || info.GetType() != "file" {
		t.Fatalf("%v, %v", info, err)
	}
	var archive bytes.Buffer
	if err := c.Archive(t.Context(), filepath.Join(dir, "new"), &archive); err != nil {
		t.Fatal(err)
	}
	if n, _, err := c.Extract(t.Context(), filepath.Join(dir, "copy"), &archive); err != nil || n != 2 {
		t.Fatalf("%d entries, %v", n, err)
	}
	var back bytes.Buffer
	if err := c.Read(t.Context(), filepath.Join(dir, "copy/new/file"), 1, 2, &back); err != nil || back.String() != "ex" {
		t.Fatalf("%q, %v", back.String(), err)
	}
	for name, err := range map[string]error{
		"relative": c.Remove(t.Context(), "x", false), "root": c.Remove(t.Context(), "/", true),
	} {
		if types.KindOf(err) != types.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Remove(t.Context(), filepath.Join(dir, "new"), false); types.KindOf(err) != types.KindConflict {
		t.Errorf("a folder with files: %v", err)
	}
	if err := c.Remove(t.Context(), filepath.Join(dir, "new"), true); err != nil {
		t.Error(err)
	}
}

func TestPorts(t *testing.T) {
	c := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		var b bytes.Buffer
		_, _ = b.ReadFrom(conn) // until the other side says no more
		_, _ = conn.Write([]byte("echo " + b.String()))
		_ = conn.Close()
	}()
	conn, err := c.DialPort(t.Context(), uint16(l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var b bytes.Buffer
	if _, err := b.ReadFrom(conn); err != nil || b.String() != "echo hello" {
		t.Fatalf("%q, %v", b.String(), err)
	}
	_ = conn.Close()
	if _, err := c.DialPort(t.Context(), 1); types.KindOf(err) != types.KindUnavailable {
		t.Fatalf("a closed port: %v", err)
	}
}

func TestShutdown(t *testing.T) {
	c := start(t)
	if _, err := c.Start(t.Context(), "polite", sh("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Follow(t.Context(), "polite", 0, false, func(guest.FollowEvent) error { return errUp }); err == nil {
		t.Fatal("it ended")
	}
	if err := c.Shutdown(t.Context(), 10*time.Second, false); err != nil {
		t.Fatal(err)
	}
	e := follow(t, c, "polite", 0)
	if !strings.Contains(e.out, "bye") || guest.ErrorOf(e.ExecStatus).Kind != types.KindInterrupted {
		t.Fatalf("%q, %v", e.out, e.ExecStatus)
	}
}

var errUp = types.Errorf(types.KindInternal, "seen enough")
