package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/spf13/cobra"
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

func configPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", types.Errorf(types.KindInvalid, "no place for the configuration: %w", err).WithRemedy("set HOME or XDG_CONFIG_HOME")
	}
	return filepath.Join(dir, "aetherium", "config.yaml"), nil
}

func loadConfig() (configFile, error) {
	c := configFile{Contexts: map[string]settings{}}
	path, err := configPath()
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

func (c configFile) save() error {
	path, err := configPath()
	if err != nil {
		return err
	}
	b, err := yaml.Marshal(c)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return types.Errorf(types.KindInvalid, "keep the configuration: %w", err)
	}
	return nil
}

// settings weighs configuration file, environment and flags, the last the most.
func (a *app) settings(env func(string) string) (settings, error) {
	c, err := loadConfig()
	if err != nil {
		return settings{}, err
	}
	name := first(a.context, env("AETHERIUM_CONTEXT"), c.Current)
	s, known := c.Contexts[name]
	if name != "" && !known {
		return s, types.InvalidField("context", name, "is not in the configuration", "see aether-cli context list")
	}
	s.URL = first(a.url, env("AETHERIUM_URL"), s.URL)
	s.Token = first(a.token, env("AETHERIUM_TOKEN"), s.Token)
	return s, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (a *app) contextCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "context", Short: "Name servers and choose among them"}
	change := func(use, short string, n int, do func(c *configFile, args []string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(n), Annotations: noServer(),
			RunE: func(_ *cobra.Command, args []string) error {
				c, err := loadConfig()
				if err != nil {
					return err
				}
				if err := do(&c, args); err != nil {
					return err
				}
				return c.save()
			},
		}
	}
	known := func(c *configFile, name string) error {
		if _, ok := c.Contexts[name]; !ok {
			return types.InvalidField("context", name, "is not in the configuration", "see aether-cli context list")
		}
		return nil
	}
	set := change("set NAME --url URL [--token TOKEN]", "Add a context or change it", 1, func(c *configFile, args []string) error {
		s := c.Contexts[args[0]]
		s.URL, s.Token = first(a.url, s.URL), first(a.token, s.Token)
		c.Contexts[args[0]] = s
		if c.Current == "" {
			c.Current = args[0]
		}
		return nil
	})
	use := change("use NAME", "Choose the context to use", 1, func(c *configFile, args []string) error {
		c.Current = args[0]
		return known(c, args[0])
	})
	remove := change("delete NAME", "Remove a context", 1, func(c *configFile, args []string) error {
		if err := known(c, args[0]); err != nil {
			return err
		}
		delete(c.Contexts, args[0])
		if c.Current == args[0] {
			c.Current = ""
		}
		return nil
	})
	list := &cobra.Command{
		Use: "list", Short: "List the contexts", Args: cobra.NoArgs, Annotations: noServer(),
		RunE: func(*cobra.Command, []string) error {
			c, err := loadConfig()
			if err != nil {
				return err
			}
			names := make([]string, 0, len(c.Contexts))
			for name := range c.Contexts {
				names = append(names, name)
			}
			sort.Strings(names)
			for _, name := range names {
				mark := " "
				if name == c.Current {
					mark = "*"
				}
				if _, err := fmt.Fprintf(a.out, "%s %s\t%s\n", mark, name, c.Contexts[name].URL); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.AddCommand(list, set, use, remove)
	return cmd
}
