package store_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
	"github.com/aetherium/aetherium/services/core/store/storetest"
	"github.com/aetherium/aetherium/test/services"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func openSQLite(t testing.TB) *store.Store {
	return open(t, "sqlite://"+filepath.Join(t.TempDir(), "test.db"))
}

func TestSQLite(t *testing.T) { storetest.Run(t, openSQLite) }

func TestPostgreSQL(t *testing.T) {
	server := services.PostgresServer(t)
	// Parallel subtests outlive this function, not its cleanups: hold them in one.
	t.Run("suite", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) *store.Store { return open(t, services.Database(t, server)) })
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"mysql://x", "sqlite://relative.db", "", "postgres://postgres:secret@127.0.0.1:1/none"} {
		_, err := store.Open(t.Context(), url)
		if k := types.KindOf(err); err == nil || (k != types.KindInvalid && k != types.KindUnavailable) {
			t.Errorf("%q: got %v", url, err)
		}
	}
}
