package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client"
)

// contextRow is a context as it is shown: without its token.
type contextRow struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Token   bool   `json:"token"` // whether it has one
	Current bool   `json:"current"`
}

var contextTable = table[contextRow]{
	head: []string{"CURRENT", "NAME", "URL", "TOKEN"},
	row: func(c contextRow) []any {
		mark, token := "", ""
		if c.Current {
			mark = "*"
		}
		if c.Token {
			token = "set"
		}
		return []any{mark, c.Name, c.URL, token}
	},
	id: func(c contextRow) string { return c.Name },
}

func (a *app) contextCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "context", Short: "Name servers and choose among them", Annotations: noServer(),
		Long: `Contexts name servers in $XDG_CONFIG_HOME/aetherium/config.yaml, which only its
owner can read. The first one is used until another is chosen.`,
		Example: `  aether-cli context set lab --url https://lab.example:8080 --token "$TOKEN"
  aether-cli context use lab
  aether-cli --context local vm list`,
	}
	cmd.AddCommand(a.contextListCommand(),
		a.changeContexts("set NAME --url URL [--token TOKEN]", "Add a context or change it", a.setContext),
		a.changeContexts("use NAME", "Choose the context to use", useContext),
		a.changeContexts("delete NAME", "Remove a context", deleteContext))
	return cmd
}

func (a *app) changeContexts(use, short string, do func(c *configFile, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeContext,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.loadConfig()
			if err != nil {
				return err
			}
			if err := do(&c, args[0]); err != nil {
				return err
			}
			return a.saveConfig(c)
		},
	}
}

func (a *app) setContext(c *configFile, name string) error {
	s := c.Contexts[name]
	if a.url != "" && a.url != s.URL {
		s = settings{URL: a.url} // the token was the other server's
	}
	s.Token = first(a.token, s.Token)
	if s.URL == "" {
		return usagef("context set %s: needs --url, the server", name)
	}
	if _, err := client.New(s.URL, s.Token); err != nil {
		return err
	}
	c.Contexts[name] = s
	c.Current = first(c.Current, name)
	return nil
}

func useContext(c *configFile, name string) error {
	if _, known := c.Contexts[name]; !known {
		return noContext(name)
	}
	c.Current = name
	return nil
}

func deleteContext(c *configFile, name string) error {
	if _, known := c.Contexts[name]; !known {
		return noContext(name)
	}
	delete(c.Contexts, name)
	if c.Current == name {
		c.Current = ""
	}
	return nil
}

func (a *app) contextListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the contexts", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.loadConfig()
			if err != nil {
				return err
			}
			rows := []contextRow{}
			for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
				s := c.Contexts[name]
				rows = append(rows, contextRow{Name: name, URL: s.URL, Token: s.Token != "", Current: name == c.Current})
			}
			return printList(a, contextTable, rows)
		},
	}
}
