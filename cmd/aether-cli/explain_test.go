package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client/clienttest"
	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

// TestKinds has each kind of the server's errors end with its own exit code.
func TestKinds(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, kind := range types.Kinds() {
		c.server.Handle("GET /api/v1/vms/"+string(kind), func(w http.ResponseWriter, r *http.Request) {
			problem.Write(w, r, (&types.Error{Kind: kind, Message: "no luck"}).WithRemedy("try\n\x1b[2Jharder"))
		})
		c.fails(types.TraitOf(kind).ExitCode, []string{"aether-cli: no luck (try \uFFFD[2Jharder)\n"}, "vm", "get", string(kind))
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	missing := types.Errorf(types.KindNotFound, "there is none")
	for name, c := range map[string]struct {
		err  error
		code int
		says string
	}{
		"nothing":       {nil, 0, ""},
		"a field":       {types.InvalidField("memory_mib", 1, "is out of range", "use more"), 2, "aether-cli: memory_mib \"1\": is out of range (use more)\n"},
		"no value":      {types.InvalidField("nam", "", "is not known here", "remove it"), 2, "aether-cli: nam: is not known here (remove it)\n"},
		"fields":        {types.FieldErrors{types.InvalidField("a", 1, "x", ""), types.InvalidField("b", 2, "y", "")}, 2, "aether-cli: a \"1\": x\naether-cli: b \"2\": y\n"},
		"several":       {errors.Join(nil, missing, usagef("and %s", "that")), 4, "aether-cli: there is none\naether-cli: and that\n"},
		"a command's":   {exitCode(42), 42, ""},
		"interrupted":   {fmt.Errorf("waiting: %w", context.Canceled), 130, ""},
		"wrong use":     {usagef("not so"), 2, "aether-cli: not so\n"},
		"anything else": {errors.New("a\nfault"), 1, "aether-cli: a fault\n"},
	} {
		var b strings.Builder
		if code := (&app{world: world{err: &b}}).explain(c.err); code != c.code || b.String() != c.says {
			t.Errorf("%s: exit %d, %q", name, code, b.String())
		}
	}
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for line, says := range map[string]string{
		"vmm":                        "did you mean vm?",
		"vm crate":                   "did you mean create?",
		"vm xyzzy":                   "see aether-cli vm --help",
		"--bogus":                    "see aether-cli --help",
		"vm list --stat x":           "see aether-cli vm list --help",
		"vm get":                     "see aether-cli vm get --help",
		"vm list -o xml":             "table, json, yaml or id",
		"vm create --vcpus two":      `"two"`,
		"vm create --env A":          "key=value",
		"exec vm":                    "no command",
		"exec vm --":                 "no command",
		"exec vm --bogus -- x":       "unknown flag",
		"exec -d -i vm -- x":         "--detach",
		"cp a b":                     "VM:PATH",
		"cp vm:/a vm:/b":             "this machine first",
		"forward vm x":               `"x"`,
		"task logs x --stream stdin": "stdout or stderr",
		"task list --limit -1":       "--limit",
		"--url nonsense vm list":     "http://host:port",
	} {
		c.fails(exitUsage, []string{"aether-cli: ", says}, strings.Fields(line)...)
	}
	if n := len(c.server.Requests()); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
}

// TestHelp has every command say what it does, and those that do something show
// how.
func TestHelp(t *testing.T) {
	t.Parallel()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no description", cmd.CommandPath())
		}
		if !cmd.HasSubCommands() && cmd.Example == "" && cmd.Name() != "version" && cmd.Parent().Name() != "context" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
	c := newCLI(t)
	for line, says := range map[string]string{
		"": "Available Commands", "vm": "create", "vm --help": "delete", "exec --help": "Ctrl-C", "exec vm --help": "Ctrl-C", "help cp": "stays inside",
		"version": version, "--version": version, "completion bash": "complete",
	} {
		if out := c.must(strings.Fields(line)...); !strings.Contains(out, says) {
			t.Errorf("aether-cli %s: %q", line, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.server.AddVM("alpha")
	c.server.AddVM("beta")
	for line, want := range map[string]string{
		"vm get":              "alpha\trunning\nbeta\trunning\n:4\n",
		"vm delete alpha":     "beta\trunning\n:4\n",
		"exec":                "alpha\trunning\nbeta\trunning\n:4\n",
		"cp":                  "alpha:\nbeta:\n:2\n",
		"task list --vm":      "alpha\trunning\nbeta\trunning\n:4\n",
		"vm list -o":          "table\njson\nyaml\nid\n:4\n",
		"vm create --network": "nat\nnone\n:4\n",
	} {
		o := c.run(append(append([]string{cobra.ShellCompRequestCmd}, strings.Fields(line)...), "")...)
		if o.code != 0 || o.out != want {
			t.Errorf("%s: %q", line, o.out)
		}
	}
	c.env["AETHERIUM_URL"] = "http://127.0.0.1:1"
	if o := c.run(cobra.ShellCompRequestCmd, "vm", "get", ""); o.out != ":4\n" {
		t.Errorf("without a server: %q", o.out)
	}
}

// TestForms prints lists and single things in each form.
func TestForms(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, form := range forms {
		if out := c.must("vm", "list", "-o", form); form != "table" && strings.TrimSpace(out) != map[string]string{"json": "[]", "yaml": "[]", "id": ""}[form] {
			t.Errorf("an empty list as %s: %q", form, out)
		}
	}
	vm := c.server.AddVM("alpha")
	c.server.Handle("GET /api/v1/workers", func(w http.ResponseWriter, _ *http.Request) {
		clienttest.Answer(w, map[string]any{"items": []types.Worker{{ID: "w", Hostname: "h\x1b[31m", Runtimes: []types.RuntimeStatus{{Name: "gvisor"}}}}})
	})
	c.server.Handle("GET /api/v1/images", func(w http.ResponseWriter, _ *http.Request) {
		clienttest.Answer(w, map[string]any{"items": []types.WorkerImage{{Ref: "debian:12", Digest: "sha256:0", SizeBytes: 3 << 20}}})
	})
	for line, want := range map[string][]string{
		"vm get alpha":               {"NAME", vm.ID},
		"vm get alpha -o id":         {vm.ID + "\n"},
		"vm get alpha -o json":       {"{\n", `"name": "alpha"`},
		"vm get alpha -o yaml":       {"name: alpha\n"},
		"vm list -o json":            {"[\n"},
		"vm list -o yaml":            {"- created_at", "name: alpha\n"},
		"worker list":                {"h\uFFFD[31m", "gvisor(not proven)"},
		"image list":                 {"debian:12", "3.0 MiB"},
		"vm stop alpha -o json":      {`"type": "vm:stop"`},
		"vm start alpha alpha":       {"alpha: start succeeded\nalpha: start succeeded\n"},
		"vm stop alpha -o id":        {"00000000-"},
		"vm get alpha alpha -o json": {"[\n"},
	} {
		out := c.must(strings.Fields(line)...)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: %q without %q", line, out, w)
			}
		}
	}
	o := c.run("vm", "delete", "none", "alpha", "gone")
	if o.code != 4 || o.out != "alpha: delete succeeded\n" || strings.Count(o.err, "aether-cli: ") != 2 {
		t.Errorf("of three VMs, one is there: %+v", o)
	}
}
