package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/aetherium/aetherium/libs/client/clienttest"
)

// asProgram has this test's own binary be the program, for tests that need a
// process: signals and terminals.
const asProgram = "AETHER_CLI_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// cli calls the program for a test.
type cli struct {
	t      *testing.T
	server *clienttest.Server
	env    map[string]string
	in     io.Reader
}

func newCLI(t *testing.T) *cli {
	t.Helper()
	s := clienttest.New(t)
	return &cli{t: t, server: s, env: map[string]string{"AETHERIUM_URL": s.URL, "XDG_CONFIG_HOME": t.TempDir()}}
}

// outcome is how a call ended.
type outcome struct {
	code     int
	out, err string
}

// run calls the program in this process.
func (c *cli) run(args ...string) outcome {
	c.t.Helper()
	var out, errOut bytes.Buffer
	code := run(c.t.Context(), args, world{in: c.in, out: &out, err: &errOut, env: func(k string) string { return c.env[k] }})
	return outcome{code, out.String(), errOut.String()}
}

// must calls the program, which succeeds, and answers its output.
func (c *cli) must(args ...string) string {
	c.t.Helper()
	o := c.run(args...)
	if o.code != 0 {
		c.t.Fatalf("aether-cli %s: exit %d: %s%s", strings.Join(args, " "), o.code, o.out, o.err)
	}
	return o.out
}

// fails calls the program, which exits with a code and says some things.
func (c *cli) fails(code int, says []string, args ...string) {
	c.t.Helper()
	o := c.run(args...)
	if o.code != code {
		c.t.Errorf("aether-cli %s: exit %d, want %d: %s%s", strings.Join(args, " "), o.code, code, o.out, o.err)
	}
	for _, s := range says {
		if !strings.Contains(o.err, s) {
			c.t.Errorf("aether-cli %s says %q, without %q", strings.Join(args, " "), o.err, s)
		}
	}
}

// program is the program as a process of its own.
func (c *cli) program(args ...string) *exec.Cmd {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	c.t.Cleanup(cancel)
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	for k, v := range c.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
