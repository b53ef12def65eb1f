package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

func (p *program) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Change the database's schema"}
	sub := func(use, short string, args cobra.PositionalArgs, do func(context.Context, *store.Store, []string) error) *cobra.Command {
		c := &cobra.Command{
			Use: use, Short: short, Args: args,
			RunE: func(cmd *cobra.Command, args []string) error {
				if p.settings.DatabaseURL == "" {
					return types.InvalidField("database_url", "", "is missing", "give postgres://… or sqlite:///path/aetherium.db")
				}
				s, err := store.Open(cmd.Context(), p.settings.DatabaseURL)
				if err != nil {
					return err
				}
				return errors.Join(do(cmd.Context(), s, args), s.Close())
			},
		}
		c.Flags().StringVar(&p.settings.DatabaseURL, "database-url", "", "postgres://… or sqlite:///path/aetherium.db")
		return c
	}
	up := sub("up", "Bring the schema up to date", cobra.NoArgs, func(ctx context.Context, s *store.Store, _ []string) error { return s.Migrate(ctx) })
	to := sub("to VERSION", "Bring the schema up or down to a version; 0 removes it with all data", cobra.ExactArgs(1), func(ctx context.Context, s *store.Store, args []string) error {
		v, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return types.InvalidField("version", args[0], "is no number", "see aetherium migrate status")
		}
		return s.MigrateTo(ctx, v)
	})
	status := sub("status", "List the steps of the schema", cobra.NoArgs, func(ctx context.Context, s *store.Store, _ []string) error {
		list, err := s.MigrationStatus(ctx)
		for _, m := range list {
			state := "pending"
			if m.Applied {
				state = "applied"
			}
			_, _ = fmt.Fprintf(p.out, "%d\t%s\t%s\n", m.Version, state, m.Name)
		}
		return err
	})
	cmd.AddCommand(up, to, status)
	return cmd
}

func (p *program) cleanupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cleanup", Short: "Take away this machine's VMs and all that they hold", Args: cobra.NoArgs,
		Long: `cleanup deletes every VM of a data folder, its bridge and its firewall rules,
and leaves the machine as it was. The database, images and logs stay. The
platform must not be running on that folder.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.cleanup(cmd.Context()) },
	}
	p.settings.workerFlags(cmd)
	return cmd
}

func (p *program) cleanup(ctx context.Context) error {
	if err := p.settings.validateWorker(); err != nil {
		return err
	}
	lock, err := lockDataDir(p.settings.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	h, err := p.openHost(ctx)
	if err != nil {
		return err
	}
	const atOnce = 16
	var deleting errgroup.Group
	deleting.SetLimit(atOnce)
	count := 0
	for _, rt := range h.runtimes {
		list, err := rt.List(ctx)
		if err != nil {
			return err
		}
		for _, vm := range list {
			deleting.Go(func() error { return rt.Delete(ctx, vm.ID) })
			count++
		}
	}
	if err := deleting.Wait(); err != nil {
		return err
	}
	if err := h.network.Cleanup(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "Removed %d VMs, bridge %s and its rules.\n", count, p.settings.Bridge)
	return err
}
