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
	if err := config.Apply(f, file, none); err != nil || *dir != "file" || *slots != 7 {
		t.Fatalf("file: %v %s %d", err, *dir, *slots)
	}
	f, dir, _ = flags()
	if err := config.Apply(f, file, env); err != nil || *dir != "env" {
		t.Fatalf("environment: %v %s", err, *dir)
	}
	f, dir, _ = flags()
	if err := f.Parse([]string{"--data-dir=flag"}); err != nil {
		t.Fatal(err)
	}
	if err := config.Apply(f, file, env); err != nil || *dir != "flag" {
		t.Fatalf("flag: %v %s", err, *dir)
	}
}

func TestEveryErrorAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("slots: many\nslotz: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, _ := flags()
	err := config.Apply(f, file, none)
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
