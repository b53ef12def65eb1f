package store

import (
	"database/sql"
	"fmt"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"
	_ "modernc.org/sqlite"             // registers "sqlite"

	"github.com/aetherium/aetherium/libs/types"
)

// dialect is all that differs between the two databases, but for the schema.
type dialect struct {
	postgres   bool
	skipLocked string // ends a SELECT whose rows others shall pass over
	forUpdate  string // ends a SELECT whose rows others shall wait for
	eventID    string // makes an event's id of its place in the transaction
	settled    string // holds for events that no earlier one can appear before
	labelIs    string // label %s has value %s
}

var onPostgres = dialect{
	postgres:   true,
	skipLocked: " FOR UPDATE OF t SKIP LOCKED",
	forUpdate:  " FOR UPDATE",
	// A sequence gives its numbers before transactions commit, so a lower one
	// could appear after a higher one was read. So an event's id begins with that
	// of its transaction, and events are shown once every transaction up to theirs
	// has ended: PostgreSQL manual, "Transaction ID and Snapshot Information".
	eventID: "(pg_current_xact_id()::text::bigint << 16) + ",
	settled: "id < (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 16)",
	labelIs: "labels ->> %s::text = %s",
}

// SQLite has one writer at a time, so nothing needs a row lock.
var onSQLite = dialect{
	// Whatever the place: a transaction has the database to itself, and an integer
	// primary key that is null takes the next number.
	eventID: "NULL + ",
	settled: "true",
	labelIs: "EXISTS (SELECT 1 FROM json_each(labels) WHERE key = %s AND value = %s)",
}

func openPostgres(url string) (*Store, error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return nil, types.InvalidField("database_url", redact(url), "cannot be read", "use postgres://user:password@host:5432/database")
	}
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &Store{dialect: onPostgres, write: db, read: db}, nil
}

func openSQLite(path string) (*Store, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, types.InvalidField("database_url", "sqlite://"+path, "has no absolute path", "use sqlite:///path/to/file.db, with three slashes")
	}
	// The write-ahead log is synced at checkpoints (synchronous=NORMAL): a killed
	// process loses nothing, a power cut may lose the last moments. ADR 0004.
	const common = "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)"
	write, err := sql.Open("sqlite", fmt.Sprintf("file:%s?_txlock=immediate&%s", path, common))
	if err != nil {
		return nil, typed("open "+path, err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", fmt.Sprintf("file:%s?%s", path, common))
	if err != nil {
		return nil, typed("open "+path, err)
	}
	read.SetMaxOpenConns(4)
	read.SetMaxIdleConns(4)
	return &Store{dialect: onSQLite, write: write, read: read}, nil
}

// ts is a time as the database keeps it: timestamptz, or microseconds.
func (d dialect) ts(t time.Time) any {
	if d.postgres {
		return t.UTC()
	}
	return t.UnixMicro()
}

func (d dialect) tsp(t *time.Time) any {
	if t == nil {
		return nil
	}
	return d.ts(*t)
}

// scanTime reads what ts wrote.
type scanTime struct {
	to  *time.Time
	opt **time.Time
}

func at(to *time.Time) scanTime     { return scanTime{to: to} }
func maybe(to **time.Time) scanTime { return scanTime{opt: to} }

// Scan implements sql.Scanner.
func (s scanTime) Scan(v any) error {
	var t time.Time
	switch v := v.(type) {
	case nil:
		if s.opt == nil {
			return fmt.Errorf("no time where one must be")
		}
		*s.opt = nil
		return nil
	case time.Time:
		t = v.UTC()
	case int64:
		t = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("%T is no time", v)
	}
	if s.opt != nil {
		*s.opt = &t
		return nil
	}
	*s.to = t
	return nil
}
