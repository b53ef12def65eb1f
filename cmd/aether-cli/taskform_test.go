package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aetherium/aetherium/libs/client/clienttest"
	"github.com/aetherium/aetherium/libs/types"
)

func TestIsTaskForm(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"-type vm:list":                             true,
		"--type vm:list":                            true,
		"-type=vm:list":                             true,
		"--type=vm:list":                            true,
		"-name my-vm -type vm:create":               true,
		"--vm-id x -o json --no-wait -type vm:stop": true,
		"-o=json -wait=false -type vm:stop":         true,
		"-args -x -type vm:execute":                 true,
		"":                                          false,
		"vm list":                                   false,
		"task list --type vm:create":                false,
		"--url http://x task list --type vm:create": false,
		"exec vm -- foo -type x":                    false,
		"-- -type x":                                false,
		"-args -type":                               false, // that is the value
		"-h":                                        false,
		"-":                                         false,
	} {
		if got := isTaskForm(strings.Fields(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestDoubleDashes(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-type vm:create -name x":               "--type vm:create --name x",
		"--type=vm:create -name=x -o id":        "--type=vm:create --name=x -o id",
		"-cmd ls -args -la -vm-id x":            "--cmd ls --args -la --vm-id x",
		"-args -type -type vm:execute":          "--args -type --type vm:execute",
		"-no-wait -vm-id x -wait=false -o=yaml": "--no-wait --vm-id x --wait=false -o=yaml",
		"-h -type x":                            "-h --type x",
	} {
		if got := strings.Join(doubleDashes(strings.Fields(line)), " "); got != want {
			t.Errorf("%q becomes %q, not %q", line, got, want)
		}
	}
}

func TestSplitArgs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		``:                                   nil,
		`clone,https://github.com/user/repo`: {"clone", "https://github.com/user/repo"},
		`-c,"echo a, b"`:                     {"-c", "echo a, b"},
		`"say ""hi"""`:                       {`say "hi"`},
		`a,,c`:                               {"a", "", "c"},
		`""`:                                 {""},
		` a , b `:                            {" a ", " b "},
		"\"two\nlines\",x":                   {"two\nlines", "x"},
		`$HOME,*,;rm`:                        {"$HOME", "*", ";rm"},
	} {
		got, err := splitArgs(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, bad := range []string{`a"b`, `"open`, "one\ntwo", `"a"b`} {
		if _, err := splitArgs(bad); err == nil || !strings.Contains(err.Error(), "quote") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestTaskForm gives the documents' commands to the letter.
func TestTaskForm(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.server.Command("git", func(_ context.Context, p *clienttest.Process) types.ExecResult {
		_, _ = fmt.Fprintf(p.Stdout, "%q %v %v", p.Spec.Args, p.Spec.StdinOpen, p.Spec.Env)
		_, _ = io.WriteString(p.Stderr, "progress")
		return types.ExecResult{ExitCode: 7}
	})
	if out := c.must("-type", "vm:create", "-name", "my-vm"); !strings.Contains(out, "my-vm is running: id 0000") || !strings.Contains(out, " s\n") {
		t.Errorf("create: %q", out)
	}
	id := strings.TrimSpace(c.must("--type=vm:create", "-o", "id", "-memory", "128", "-vcpus", "2", "-image", "debian:12"))
	var vm types.VM
	if err := json.Unmarshal([]byte(c.must("vm", "get", id, "-o", "json")), &vm); err != nil || vm.MemoryMiB != 128 || vm.VCPUs != 2 || vm.Image != "debian:12" {
		t.Errorf("%+v, %v", vm, err)
	}
	o := c.run("-type", "vm:execute", "-vm-id", id, "-cmd", "git", "-args", "clone,https://github.com/user/repo", "-env", "A=b=c")
	if o.code != 7 || o.out != `["clone" "https://github.com/user/repo"] false map[A:b=c]` || o.err != "progress" {
		t.Errorf("execute: %+v", o)
	}
	if out := c.must("-type", "vm:list"); !strings.Contains(out, "my-vm") || !strings.Contains(out, id) {
		t.Errorf("list: %q", out)
	}
	for _, verb := range []string{"stop", "start", "pause", "resume", "delete"} {
		if out := c.must("-vm-id", "my-vm", "-type", "vm:"+verb); out != "my-vm: "+verb+" succeeded\n" {
			t.Errorf("%s: %q", verb, out)
		}
	}
	if out := c.must("-type", "vm:execute", "-vm-id", id, "-cmd", "git", "-wait=false", "-o", "yaml"); !strings.Contains(out, "type: vm:execute") {
		t.Errorf("no wait: %q", out)
	}
	if out := c.must("-type", "vm:create", "-help"); !strings.Contains(out, "-type vm:delete") {
		t.Errorf("help: %q", out)
	}
	c.fails(exitUsage, []string{"vm:nothing", "use vm:create"}, "-type", "vm:nothing", "-vm-id", id)
	c.fails(exitUsage, []string{"list", "use vm:create"}, "-type", "list")
	c.fails(exitUsage, []string{"needs -vm-id"}, "-type", "vm:stop")
	c.fails(exitUsage, []string{"needs -cmd"}, "-type", "vm:execute", "-vm-id", id)
	c.fails(exitUsage, []string{"needs -vm-id"}, "-type", "vm:execute", "-cmd", "git")
	c.fails(exitUsage, []string{"-args", "bare"}, "-type", "vm:execute", "-vm-id", id, "-cmd", "git", "-args", `a"b`)
	c.fails(exitUsage, []string{"unknown flag: --nam"}, "-type", "vm:create", "-nam", "x")
	c.fails(exitUsage, []string{"stray"}, "-type", "vm:create", "stray")
	c.fails(4, []string{`no VM "none"`}, "-type", "vm:delete", "-vm-id", "none")
}
