// Package store is the truth: VMs, tasks, workers, images, output and events,
// in PostgreSQL or in SQLite behind one behaviour. Every change of state is a
// compare-and-set in a transaction that also records its event; whatever else
// there is (the queue, a worker's memory) can be lost and made again from here.
//
// It never talks to a VM, a queue or a client.
package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// Store is an open database. All methods may be called from many goroutines;
// errors are *types.Error, but for those of an ended context.
type Store struct {
	dialect
	write    *sql.DB // PostgreSQL: the same as read; SQLite: one connection
	read     *sql.DB
	onEvents func([]types.Event)
}

// Open connects to "postgres://user:password@host/database" or to
// "sqlite:///absolute/path.db" (made if missing). It changes no schema: see
// Migrate.
func Open(ctx context.Context, url string) (*Store, error) {
	var s *Store
	var err error
	switch {
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		s, err = openPostgres(url)
	case strings.HasPrefix(url, "sqlite://"):
		s, err = openSQLite(strings.TrimPrefix(url, "sqlite://"))
	default:
		err = types.InvalidField("database_url", redact(url), "is no database this program knows",
			"use postgres://user:password@host/database or sqlite:///path/to/file.db")
	}
	if err != nil {
		return nil, err
	}
	if err := s.Ping(ctx); err != nil {
		return nil, fmt.Errorf("%w (and %v)", err, s.Close())
	}
	return s, nil
}

// redact keeps a URL's scheme alone: what follows may hold a password.
func redact(url string) string {
	scheme, _, found := strings.Cut(url, "://")
	if !found {
		return "…"
	}
	return scheme + "://…"
}

// OnEvents sets what is called after each commit with the events that it
// recorded, in their order. Set it before the store is used.
func (s *Store) OnEvents(fn func([]types.Event)) { s.onEvents = fn }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return typed("reach the database", s.read.PingContext(ctx))
}

// Close closes the database.
func (s *Store) Close() error {
	err := s.write.Close()
	if s.read != s.write {
		if e := s.read.Close(); err == nil {
			err = e
		}
	}
	return err
}

// now is the present as both databases can keep it.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
