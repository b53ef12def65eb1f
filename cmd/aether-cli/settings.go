package main

import (
	"errors"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/aetherium/aetherium/libs/types"
)

// settings say which server is meant.
type settings struct {
	URL   string `json:"url,omitempty"`
	Token string `json:"token,omitempty"`
}

// configFile is $XDG_CONFIG_HOME/aetherium/config.yaml. It may hold tokens, so
// nobody else can read it.
type configFile struct {
	Current  string              `json:"current,omitempty"`
	Contexts map[string]settings `json:"contexts,omitempty"`
}

// configPath is where the file is, by the XDG Base Directory Specification.
func (a *app) configPath() (string, error) {
	dir := a.env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // the specification has such a value ignored
		home := a.env("HOME")
		if home == "" {
			return "", types.Errorf(types.KindInvalid, "there is no place for the configuration").WithRemedy("set HOME or XDG_CONFIG_HOME")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "aetherium", "config.yaml"), nil
}

func (a *app) loadConfig() (configFile, error) {
	c := configFile{Contexts: map[string]settings{}}
	path, err := a.configPath()
	if err != nil {
		return c, nil //nolint:nilerr // no home, no configuration
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = yaml.UnmarshalStrict(b, &c)
	}
	if err != nil {
		return c, types.Errorf(types.KindInvalid, "%s cannot be read: %w", path, err).WithRemedy("mend the file or remove it")
	}
	if c.Contexts == nil {
		c.Contexts = map[string]settings{}
	}
	return c, nil
}

// saveConfig writes the file whole or not at all.
func (a *app) saveConfig(c configFile) error {
	path, err := a.configPath()
	if err != nil {
		return err
	}
	if err := replaceFile(path, c); err != nil {
		return types.Errorf(types.KindInvalid, "the configuration cannot be kept: %w", err)
	}
	return nil
}

func replaceFile(path string, c configFile) error {
	b, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".config-*") // for its owner alone
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// settings weighs configuration file, environment and flags, the last the most.
func (a *app) settings() (settings, error) {
	c, err := a.loadConfig()
	if err != nil {
		return settings{}, err
	}
	s := server{contexts: c.Contexts}
	for _, layer := range []struct{ context, url, token string }{
		{c.Current, "", ""},
		{a.env("AETHERIUM_CONTEXT"), a.env("AETHERIUM_URL"), a.env("AETHERIUM_TOKEN")},
		{a.context, a.url, a.token},
	} {
		s.weigh(layer.context, layer.url, layer.token)
	}
	return s.settings, s.err
}

// server is what the layers that were weighed so far mean.
type server struct {
	settings
	contexts map[string]settings
	borrowed bool  // the token is a context's, for that context's server alone
	err      error // a context that is not there
}

// weigh lays a heavier layer over the others.
func (s *server) weigh(context, url, token string) {
	if context != "" {
		s.settings, s.borrowed, s.err = s.contexts[context], true, nil
		if _, known := s.contexts[context]; !known {
			s.err = noContext(context)
		}
	}
	if url != "" {
		if s.borrowed && url != s.URL {
			s.Token = ""
		}
		s.URL, s.err = url, nil
	}
	if token != "" {
		s.Token, s.borrowed = token, false
	}
}

func noContext(name string) error {
	return types.InvalidField("context", name, "is not in the configuration", "see aether-cli context list")
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
