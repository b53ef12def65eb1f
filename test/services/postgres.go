package services

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"
)

var databases struct {
	sync.Mutex
	made int
}

// Postgres answers the URL of a new, empty database. Its server is the one that
// AETHERIUM_TEST_POSTGRES names, or one that is started for this test.
func Postgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv("AETHERIUM_TEST_POSTGRES")
	if server == "" {
		server = PostgresServer(t)
	}
	return Database(t, server)
}

// Database makes a new database on a server and answers its URL.
func Database(t testing.TB, server string) string {
	t.Helper()
	db, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	databases.Lock()
	databases.made++
	name := fmt.Sprintf("aetherium_test_%d_%d", os.Getpid(), databases.made)
	databases.Unlock()
	if _, err := db.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		db, err := sql.Open("pgx", server)
		if err == nil {
			_, _ = db.Exec("DROP DATABASE " + name + " WITH (FORCE)")
			_ = db.Close()
		}
	})
	return server[:len(server)-len("postgres")] + name
}

// PostgresServer starts a PostgreSQL server, with its durability on, and answers
// the URL of its database "postgres". It runs as the user postgres if the test is
// root, because PostgreSQL refuses to.
func PostgresServer(t testing.TB) string {
	t.Helper()
	const remedy = "apt-get install postgresql"
	bin := filepath.Dir(find(t, "/usr/lib/postgresql/*/bin/initdb", remedy))
	as := &syscall.SysProcAttr{}
	dir, err := os.MkdirTemp("", "aetherium-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skipf("needs the user postgres: %s", remedy)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := freePort(t)
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-c", "max_connections=200")
	server.SysProcAttr, server.Dir = &syscall.SysProcAttr{Credential: as.Credential}, dir
	start(t, server)
	url := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres", port)
	await(t, "postgres", func(ctx context.Context) error {
		db, err := sql.Open("pgx", url)
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		return db.PingContext(ctx)
	})
	return url
}
