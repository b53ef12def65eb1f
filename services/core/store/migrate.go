package store

import (
	"context"
	"errors"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/migrations"
)

// Migration is one step of the schema.
type Migration struct {
	Version int64
	Name    string
	Applied bool
}

// Migrate brings the schema up to what this program needs. Several programs may
// try at once: one works, the others wait.
func (s *Store) Migrate(ctx context.Context) error {
	p, err := s.migrator(ctx)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return typed("migrate the database", err)
}

// MigrateTo brings the schema up or down to a version; 0 takes all of it away.
func (s *Store) MigrateTo(ctx context.Context, version int64) error {
	p, err := s.migrator(ctx)
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	switch {
	case err != nil:
	case version < 0 || version > target:
		return types.InvalidField("version", version, "is no version of the schema", "see aetherium migrate status for those there are")
	case version > current:
		_, err = p.UpTo(ctx, version)
	default:
		_, err = p.DownTo(ctx, version)
	}
	return typed("migrate the database", err)
}

// MigrationStatus lists the steps there are, oldest first.
func (s *Store) MigrationStatus(ctx context.Context) ([]Migration, error) {
	p, err := s.migrator(ctx)
	if err != nil {
		return nil, err
	}
	status, err := p.Status(ctx)
	if err != nil {
		return nil, typed("read the migrations", err)
	}
	var list []Migration
	for _, m := range status {
		list = append(list, Migration{Version: m.Source.Version, Name: m.Source.Path, Applied: m.State == goose.StateApplied})
	}
	return list, nil
}

func (s *Store) migrator(ctx context.Context) (*goose.Provider, error) {
	dialect, folder := goose.DialectSQLite3, "sqlite"
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.postgres {
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, typed("make the migration lock", err)
		}
		dialect, folder = goose.DialectPostgres, "postgres"
		options = append(options, goose.WithSessionLocker(locker))
	}
	steps, err := fs.Sub(migrations.FS, folder)
	if err != nil {
		return nil, typed("read the migrations", err)
	}
	p, err := goose.NewProvider(dialect, s.write, steps, options...)
	if err != nil {
		return nil, typed("read the migrations", err)
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil && !errors.Is(err, goose.ErrVersionNotFound) {
		return nil, typed("read the schema's version", err)
	}
	if current > target {
		return nil, types.Errorf(types.KindConflict, "the database has schema version %d and this program knows only %d", current, target).
			WithRemedy("run a newer aetherium, or migrate down with the one that made it")
	}
	return p, nil
}
