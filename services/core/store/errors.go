package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/aetherium/aetherium/libs/types"
)

// typed gives a database error its kind, and says what was being done.
func typed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*types.Error](err); ok ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if unavailable(err) {
		return types.Errorf(types.KindUnavailable, "%s: %w", doing, err).WithRemedy("check that the database runs and can be reached, then try again")
	}
	return types.Errorf(types.KindInternal, "%s: %w", doing, err)
}

// unavailable holds for faults of the connection or of a server that starts or
// stops, which pass by themselves.
func unavailable(err error) bool {
	var network net.Error
	var connect *pgconn.ConnectError
	if errors.As(err, &network) || errors.As(err, &connect) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, sql.ErrConnDone) || pgconn.SafeToRetry(err) {
		return true
	}
	// Classes of PostgreSQL's appendix A: 08 connection exception, 53
	// insufficient resources, 57P operator intervention.
	if c := pgCode(err); strings.HasPrefix(c, "08") || strings.HasPrefix(c, "53") || strings.HasPrefix(c, "57P") {
		return true
	}
	return sqliteCode(err) == sqlite3.SQLITE_FULL || sqliteCode(err) == sqlite3.SQLITE_IOERR
}

// transient holds for a transaction that lost against another and may simply be
// run again.
func transient(err error) bool {
	switch pgCode(err) {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return true
	}
	return sqliteCode(err) == sqlite3.SQLITE_BUSY
}

// duplicate holds for a broken unique constraint.
func duplicate(err error) bool {
	return pgCode(err) == "23505" || sqliteCode(err) == sqlite3.SQLITE_CONSTRAINT
}

func pgCode(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// sqliteCode is the primary result code: the low byte of the extended one.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}
