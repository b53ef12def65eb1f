package services

import (
	"fmt"
	"os/exec"
	"testing"
)

// Redis starts a Redis server and answers its URL. It keeps nothing on disk.
func Redis(t testing.TB) string {
	t.Helper()
	bin := find(t, "redis-server", "apt-get install redis-server")
	port := freePort(t)
	start(t, exec.Command(bin, "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--save", "", "--appendonly", "no", "--dir", t.TempDir()))
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	await(t, "redis-server", dialable(addr))
	return "redis://" + addr
}
