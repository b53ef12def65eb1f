package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call runs the program as main does.
func call(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(context.Background(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestWrongUse(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"unknown command":  {[]string{"fly"}, []string{"fly"}},
		"unknown flag":     {[]string{"up", "--fly"}, []string{"--fly"}},
		"argument":         {[]string{"up", "here"}, []string{"here"}},
		"open to all":      {[]string{"up", "--data-dir", dir, "--listen", ":8080"}, []string{"--listen", "--insecure-open"}},
		"all at once":      {[]string{"up", "--data-dir", "here", "--subnet", "all", "--slots", "0", "--cpu-overcommit", "0.5"}, []string{"--data-dir", "--subnet", "--slots", "--cpu-overcommit"}},
		"gateway":          {[]string{"gateway", "--listen", "nowhere"}, []string{"--database-url", "--redis-url", "--listen"}},
		"worker":           {[]string{"worker", "--data-dir", dir, "--advertise", "here", "--redis-url", "redis://x"}, []string{"--database-url", "--cluster-token", "--advertise"}},
		"port in use":      {[]string{"up", "--data-dir", dir, "--listen", taken.Addr().String()}, []string{taken.Addr().String(), "in use", "ss -ltnp"}},
		"no database":      {[]string{"migrate", "up"}, []string{"--database-url"}},
		"odd database":     {[]string{"migrate", "up", "--database-url", "mysql://x"}, []string{"mysql"}},
		"odd version":      {[]string{"migrate", "to", "ten", "--database-url", "sqlite://" + dir + "/odd.db"}, []string{"ten"}},
		"odd output":       {[]string{"doctor", "-o", "xml"}, []string{"xml"}},
		"odd level":        {[]string{"version", "--log-level", "loud"}, []string{"loud"}},
		"no such settings": {[]string{"version", "--config", dir + "/none.yaml"}, []string{"none.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errOut := call(t, c.args...)
			if code != 2 {
				t.Errorf("exit %d, want 2", code)
			}
			for _, part := range c.says {
				if !strings.Contains(errOut, part) {
					t.Errorf("%q does not say %q", errOut, part)
				}
			}
		})
	}
}

func TestDataFolderIsOnes(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	code, _, errOut := call(t, "up", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if code != 2 || !strings.Contains(errOut, "another aetherium") {
		t.Errorf("exit %d: %s", code, errOut)
	}
}

func TestConfigShow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("database_url: postgres://u:hunter2@db/x\nlabels: {zone: a}\nmigrate: false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AETHERIUM_CLUSTER_TOKEN", "sesame")
	t.Setenv("AETHERIUM_SLOTS", "7")
	code, out, errOut := call(t, "config", "show", "--config", file, "--bridge", "br7")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errOut)
	}
	for _, part := range []string{`bridge: "br7"`, `slots: "7"`, `migrate: "false"`, `labels: "zone=a"`, `listen: "127.0.0.1:8080"`} {
		if !strings.Contains(out, part) {
			t.Errorf("%s has no %s", out, part)
		}
	}
	for _, secret := range []string{"hunter2", "sesame"} {
		if strings.Contains(out, secret) {
			t.Errorf("a secret is shown: %s", out)
		}
	}
}

func TestMigrate(t *testing.T) {
	url := "sqlite://" + filepath.Join(t.TempDir(), "a.db")
	for _, step := range []struct {
		args []string
		has  string
	}{
		{[]string{"status"}, "pending"}, {[]string{"up"}, ""}, {[]string{"up"}, ""}, {[]string{"status"}, "applied"},
		{[]string{"to", "0"}, ""}, {[]string{"status"}, "pending"},
	} {
		code, out, errOut := call(t, append(append([]string{"migrate"}, step.args...), "--database-url", url)...)
		if code != 0 || !strings.Contains(out, step.has) {
			t.Errorf("migrate %v: exit %d\n%s%s", step.args, code, out, errOut)
		}
	}
}

func TestVersion(t *testing.T) {
	if code, out, _ := call(t, "version"); code != 0 || strings.TrimSpace(out) != version {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestDoctorAnswersJSON(t *testing.T) {
	_, out, errOut := call(t, "doctor", "-o", "json", "--data-dir", t.TempDir())
	var list []finding
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v: %s%s", err, out, errOut)
	}
	seen := map[string]bool{}
	for _, f := range list {
		seen[f.Check] = true
		if f.Verdict == verdictFail && f.Remedy == "" {
			t.Errorf("%s fails without a remedy", f.Check)
		}
	}
	for _, check := range []string{"root", "cgroups", "nft", "disk", "leftovers"} {
		if !seen[check] {
			t.Errorf("no word on %s", check)
		}
	}
}
