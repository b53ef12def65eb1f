package types

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// fields answers the names of the fields that err complains of.
func fields(err error) string {
	var all FieldErrors
	if !errors.As(err, &all) {
		var one *Error
		if !errors.As(err, &one) {
			return ""
		}
		all = FieldErrors{one}
	}
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = e.Field
		if e.Kind != KindInvalid || e.Message == "" || e.Remedy == "" {
			names[i] += "(incomplete)"
		}
	}
	return strings.Join(names, " ")
}

func TestVMSpecValidate(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint("k", i)] = ""
	}
	for _, c := range []struct {
		name string
		spec VMSpec
		want string
	}{
		{"empty", VMSpec{}, ""},
		{"full", VMSpec{
			Name: "a-1", Image: "ubuntu:24.04", Runtime: "gvisor", VCPUs: 64, MemoryMiB: 64, DiskMiB: 64,
			Env: map[string]string{"A": "b c=\n"}, Labels: map[string]string{"a.b/c": "ü x"}, Network: "none",
		}, ""},
		{"longest name", VMSpec{Name: strings.Repeat("a", 63)}, ""},
		{"name too long", VMSpec{Name: strings.Repeat("a", 64)}, "name"},
		{"name in capitals", VMSpec{Name: "Web"}, "name"},
		{"name with a dash at its end", VMSpec{Name: "web-"}, "name"},
		{"name with a newline", VMSpec{Name: "web\n"}, "name"},
		{"negative sizes", VMSpec{VCPUs: -1, MemoryMiB: -1, DiskMiB: -1}, "vcpus memory_mib disk_mib"},
		{"absurd sizes", VMSpec{VCPUs: 65, MemoryMiB: 1<<20 + 1, DiskMiB: 1<<24 + 1}, "vcpus memory_mib disk_mib"},
		{"too small", VMSpec{MemoryMiB: 63, DiskMiB: 1}, "memory_mib disk_mib"},
		{"image with a space", VMSpec{Image: "ubuntu 24"}, "image"},
		{"runtime", VMSpec{Runtime: "../x"}, "runtime"},
		{"env", VMSpec{Env: map[string]string{"": "x", "A=B": "", "C": "\x00"}}, "env. env.A=B env.C"},
		{"labels", VMSpec{Labels: map[string]string{"-a": "x", "b": strings.Repeat("x", 256)}}, "labels.-a labels.b"},
		{"too many labels", VMSpec{Labels: many, Placement: many}, "labels placement"},
		{"network", VMSpec{Network: "host"}, "network"},
	} {
		if got := fields(c.spec.Validate()); got != c.want {
			t.Errorf("%s: complains of %q, want %q", c.name, got, c.want)
		}
	}
}

func TestVMSpecDefaults(t *testing.T) {
	t.Parallel()
	var s VMSpec
	s.ApplyDefaults()
	if err := s.Validate(); err != nil || !ValidName(s.Name) {
		t.Fatalf("%+v: %v", s, err)
	}
	if s.Image != "host" || s.VCPUs != 1 || s.MemoryMiB != 512 || s.DiskMiB != 10240 || s.Network != "nat" || s.Runtime != "" {
		t.Errorf("%+v", s)
	}
	kept := VMSpec{Name: "n", Image: "alpine", VCPUs: 3, MemoryMiB: 100, DiskMiB: 200, Network: "none"}
	was := kept
	kept.ApplyDefaults()
	if fmt.Sprint(kept) != fmt.Sprint(was) {
		t.Errorf("changed to %+v", kept)
	}
}

func TestExecSpecValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		spec ExecSpec
		want string
	}{
		{"least", ExecSpec{Command: "ls"}, ""},
		{"no command", ExecSpec{}, "command"},
		{"blank command", ExecSpec{Command: " "}, "command"},
		{"NUL", ExecSpec{Command: "l\x00s", Args: []string{"", "a\x00"}}, "command args[1]"},
		{"long argument", ExecSpec{Command: "ls", Args: []string{strings.Repeat("x", 128<<10)}}, "args[0]"},
		{"long in all", ExecSpec{Command: "ls", Args: strings.Split(strings.Repeat(strings.Repeat("x", 100<<10)+" ", 11), " ")}, "args"},
		{"relative cwd", ExecSpec{Command: "ls", Cwd: "src"}, "cwd"},
		{"user", ExecSpec{Command: "ls", User: "a b"}, "user"},
		{"both stdins", ExecSpec{Command: "ls", Stdin: "a", StdinBase64: []byte("b")}, "stdin_base64"},
		{"terminal", ExecSpec{Command: "ls", TTY: true, Rows: 24, Cols: 65536}, "cols"},
		{"rows without a terminal", ExecSpec{Command: "ls", Rows: 24}, "rows"},
		{"negative", ExecSpec{Command: "ls", Timeout: -1, OutputLimit: -1}, "timeout output_limit_bytes"},
		{"absurd", ExecSpec{Command: "ls", Timeout: Duration(9000 * time.Hour), OutputLimit: 1 << 40}, "timeout output_limit_bytes"},
	} {
		if got := fields(c.spec.Validate()); got != c.want {
			t.Errorf("%s: complains of %q, want %q", c.name, got, c.want)
		}
	}
}

func TestASecretInTheEnvironmentIsNotShown(t *testing.T) {
	t.Parallel()
	err := (&ExecSpec{Command: "ls", Env: map[string]string{"TOKEN": "hunter2\x00"}}).Validate()
	if s := fmt.Sprintf("%+v", AsError(err)); strings.Contains(s, "hunter2") {
		t.Error(s)
	}
}
