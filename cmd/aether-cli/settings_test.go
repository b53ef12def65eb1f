package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const twoContexts = `current: lab
contexts:
  lab: {url: "http://lab:8080", token: lab-token}
  prod: {url: "https://prod", token: prod-token}
`

func TestWeight(t *testing.T) {
	t.Parallel()
	type given struct{ envContext, envURL, envToken, context, url, token string }
	for name, c := range map[string]struct {
		given
		file       string
		url, token string
		err        string
	}{
		"nothing":                          {given{}, "", "", "", ""},
		"file":                             {given{}, twoContexts, "http://lab:8080", "lab-token", ""},
		"environment names a context":      {given{envContext: "prod"}, twoContexts, "https://prod", "prod-token", ""},
		"flag names a context":             {given{envContext: "prod", context: "lab"}, twoContexts, "http://lab:8080", "lab-token", ""},
		"environment over file":            {given{envURL: "http://e", envToken: "e"}, twoContexts, "http://e", "e", ""},
		"flags over environment":           {given{envURL: "http://e", envToken: "e", url: "http://f", token: "f"}, twoContexts, "http://f", "f", ""},
		"flag's context over environment":  {given{envURL: "http://e", envToken: "e", context: "prod"}, twoContexts, "https://prod", "prod-token", ""},
		"token alone":                      {given{envToken: "e"}, twoContexts, "http://lab:8080", "e", ""},
		"a context's token stays with it":  {given{url: "http://other"}, twoContexts, "http://other", "", ""},
		"the same server may have it":      {given{url: "http://lab:8080"}, twoContexts, "http://lab:8080", "lab-token", ""},
		"environment's token goes along":   {given{envToken: "e", url: "http://f"}, twoContexts, "http://f", "e", ""},
		"unknown context":                  {given{context: "none"}, twoContexts, "", "", "none"},
		"unknown in environment":           {given{envContext: "none"}, twoContexts, "", "", "none"},
		"a current one that is gone":       {given{}, "current: gone", "", "", "gone"},
		"which does not matter with a URL": {given{envURL: "http://e"}, "current: gone", "http://e", "", ""},
		"a file that is no YAML":           {given{}, "{", "", "", "config.yaml"},
		"a file with unknown fields":       {given{}, "curent: x", "", "", "curent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			if c.file != "" {
				write(t, filepath.Join(home, ".config/aetherium/config.yaml"), c.file, 0o600)
			}
			env := map[string]string{"HOME": home, "XDG_CONFIG_HOME": "relative", "AETHERIUM_CONTEXT": c.envContext, "AETHERIUM_URL": c.envURL, "AETHERIUM_TOKEN": c.envToken}
			a := &app{world: world{env: func(k string) string { return env[k] }}, context: c.context, url: c.given.url, token: c.given.token}
			s, err := a.settings()
			if c.err != "" {
				if err == nil || !strings.Contains(sentenceOf(err), c.err) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || s.URL != c.url || s.Token != c.token {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

func sentenceOf(err error) string {
	var b strings.Builder
	(&app{world: world{err: &b}}).explain(err)
	return b.String()
}

func TestContexts(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	url := c.env["AETHERIUM_URL"]
	delete(c.env, "AETHERIUM_URL")
	c.must("context", "set", "lab", "--url", url, "--token", "hush")
	c.must("context", "set", "other", "--url", "http://127.0.0.1:1")
	path := filepath.Join(c.env["XDG_CONFIG_HOME"], "aetherium/config.yaml")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	c.must("vm", "list") // lab is the first
	list := c.must("context", "list")
	if strings.Contains(list, "hush") || !strings.Contains(list, "lab") || !strings.Contains(list, "set") {
		t.Errorf("list: %q", list)
	}
	if out := c.must("context", "list", "-o", "json"); strings.Contains(out, "hush") || !strings.Contains(out, `"current": true`) {
		t.Errorf("list: %q", out)
	}
	c.must("context", "use", "other")
	c.fails(7, []string{"http://127.0.0.1:1", "aetherium up"}, "vm", "list")
	c.must("vm", "list", "--context", "lab")
	if got := c.server.Requests()[len(c.server.Requests())-1].Header.Get("Authorization"); got != "Bearer hush" {
		t.Errorf("sent %q", got)
	}
	c.must("context", "set", "lab", "--url", "http://elsewhere")
	if strings.Contains(read(t, path), "hush") {
		t.Error("the token was kept for another server")
	}
	c.must("context", "delete", "other")
	if out := c.must("context", "list", "-o", "id"); out != "lab\n" {
		t.Errorf("left: %q", out)
	}
	c.fails(2, []string{`context "none"`, "context list"}, "context", "use", "none")
	c.fails(2, []string{`context "none"`}, "context", "delete", "none")
	c.fails(2, []string{"needs --url"}, "context", "set", "empty")
	c.fails(2, []string{`url "nonsense"`, "http://host:port"}, "context", "set", "bad", "--url", "nonsense")
	// One that is not there must not keep anybody from mending it.
	c.env["AETHERIUM_CONTEXT"] = "none"
	c.must("context", "list")
	delete(c.env, "XDG_CONFIG_HOME")
	c.fails(2, []string{"HOME"}, "context", "set", "x", "--url", "http://x")
}
