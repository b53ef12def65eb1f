package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/aetherium/aetherium/libs/common/config"
)

func flags() (*pflag.FlagSet, *string, *int) {
	f := pflag.NewFlagSet("t", pflag.ContinueOnError)
	return f, f.String("data-dir", "default", ""), f.Int("slots", 1, "")
}

func none(string) (string, bool) { return "", false }

func nobody(string) bool { return false }

func TestWeight(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("data_dir: file\nslots: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(k string) (string, bool) {
		if k == "AETHERIUM_DATA_DIR" {
			return "env", true
		}
		return "", false
	}
	f, dir, slots := flags()
	if err := config.Apply(f, file, none, nobody); err != nil || *dir != "file" || *slots != 7 {
		t.Fatalf("file: %v %s %d", err, *dir, *slots)
	}
	f, dir, _ = flags()
	if err := config.Apply(f, file, env, nobody); err != nil || *dir != "env" {
		t.Fatalf("environment: %v %s", err, *dir)
	}
	f, dir, _ = flags()
	if err := f.Parse([]string{"--data-dir=flag"}); err != nil {
		t.Fatal(err)
	}
	if err := config.Apply(f, file, env, nobody); err != nil || *dir != "flag" {
		t.Fatalf("flag: %v %s", err, *dir)
	}
}

func TestEveryErrorAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("slots: many\nslotz: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, _ := flags()
	err := config.Apply(f, file, none, nobody)
	if err == nil || !strings.Contains(err.Error(), "slots") || !strings.Contains(err.Error(), "slotz") {
		t.Fatalf("got %v", err)
	}
}

func TestShowMasksSecrets(t *testing.T) {
	f := pflag.NewFlagSet("t", pflag.ContinueOnError)
	f.String("token", "hunter2", "")
	config.Secret(f, "token")
	var out strings.Builder
	if err := config.Show(f, &out); err != nil || strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), "token") {
		t.Fatalf("%v: %s", err, out.String())
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAFileIsShared(t *testing.T) {
	file := write(t, "slots: 3\nbridge: br0\n")
	f, _, slots := flags()
	if err := config.Apply(f, file, none, func(flag string) bool { return flag == "bridge" }); err != nil || *slots != 3 {
		t.Fatalf("%v, slots %d", err, *slots)
	}
}

// TestValues reads numbers, lists and maps as YAML writes them, and what Show
// printed.
func TestValues(t *testing.T) {
	set := func() (*pflag.FlagSet, *int, *[]string, *map[string]string) {
		f := pflag.NewFlagSet("t", pflag.ContinueOnError)
		return f, f.Int("slots", 1, ""), f.StringSlice("host", nil, ""), f.StringToString("labels", nil, "")
	}
	f, slots, hosts, labels := set()
	if err := config.Apply(f, write(t, "slots: 12000000\nhost: [a, b]\nlabels: {zone: x, disk: ssd}\n"), none, nobody); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := config.Show(f, &out); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if *slots != 12000000 || len(*hosts) != 2 || (*labels)["zone"] != "x" || (*labels)["disk"] != "ssd" {
			t.Fatalf("got %d %v %v", *slots, *hosts, *labels)
		}
		f, slots, hosts, labels = set()
		if err := config.Apply(f, write(t, out.String()), none, nobody); err != nil {
			t.Fatal(err)
		}
	}
	f, _, _, _ = set()
	out.Reset()
	if err := config.Show(f, &out); err != nil {
		t.Fatal(err)
	}
	if err := config.Apply(f, write(t, out.String()), none, nobody); err != nil {
		t.Fatalf("what Show prints of nothing set cannot be read: %v", err)
	}
}
