package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/aetherium/aetherium/test/services"
)

// TestDistributed runs a gateway and two workers as processes of their own on
// PostgreSQL and Redis.
func TestDistributed(t *testing.T) {
	needRoot(t)
	database, redisURL := services.Postgres(t), services.Redis(t)
	shared := []string{"--database-url", database, "--redis-url", redisURL, "--cluster-token", "e2e-token"}
	dir := t.TempDir()
	listen := freePort(t)
	p := &platform{t: t, url: "http://" + listen, dir: dir}
	gateway := launch(t, filepath.Join(dir, "gateway.log"), append([]string{"gateway", "--listen", listen}, shared...)...)
	t.Cleanup(func() { gateway.end(t, syscall.SIGTERM); p.showLog(filepath.Join(dir, "gateway.log")) })
	eventually(t, "the gateway is ready", func() bool { return p.cli("vm", "list").code == 0 })

	type running struct {
		*process
		args []string
	}
	var workers []*running
	for i := range 2 {
		data, args := place(t)
		log := filepath.Join(data, "worker.log")
		w := &running{args: append(append([]string{"worker", "--listen", freePort(t), "--labels", fmt.Sprintf("n=%d", i)}, args...), shared...)}
		w.process = launch(t, log, w.args...)
		workers = append(workers, w)
		t.Cleanup(func() { w.end(t, syscall.SIGTERM); p.showLog(log) })
	}
	eventually(t, "both workers have proven their runtime", func() bool {
		return strings.Count(p.cli("worker", "list").out, "ready") == 2 && !strings.Contains(p.cli("worker", "list").out, "not proven")
	})
	for i := range 2 {
		name := fmt.Sprintf("on-%d", i)
		p.must("vm", "create", name, "--memory", "128", "--disk", "128", "--placement", fmt.Sprintf("n=%d", i))
		equal(t, p.must("exec", name, "--", "hostname"), name)
	}

	// Redis forgets everything, again and again, while commands run.
	opt, err := redis.ParseURL(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	db := redis.NewClient(opt)
	defer func() { _ = db.Close() }()
	flushing, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for flushing.Err() == nil {
			_ = db.FlushAll(flushing).Err()
			<-tick.C
		}
	}()
	var ids []string
	for i := range 20 {
		ids = append(ids, p.must("exec", "-d", "-o", "id", fmt.Sprintf("on-%d", i%2), "--", "sh", "-c", fmt.Sprintf("echo task %d", i)))
	}
	eventually(t, "every task has ended", func() bool {
		return !strings.Contains(p.cli("task", "list", "--state", "pending", "--state", "queued", "--state", "running").out, "vm:execute")
	})
	stop()
	for i, id := range ids {
		equal(t, p.must("task", "logs", id), fmt.Sprintf("task %d", i))
	}

	// A gateway and a worker are killed while a command runs.
	id := p.must("exec", "-d", "-o", "id", "on-0", "--", "sh", "-c", "for i in $(seq 50); do echo line $i; sleep 0.1; done")
	eventually(t, "it runs", func() bool { return strings.Contains(p.cli("task", "logs", id).out, "line 3") })
	workers[0].end(t, syscall.SIGKILL)
	gateway.end(t, syscall.SIGKILL)
	*gateway = *launch(t, filepath.Join(dir, "gateway.log"), append([]string{"gateway", "--listen", listen}, shared...)...)
	workers[0].process = launch(t, workers[0].log, workers[0].args...)
	eventually(t, "the gateway is back", func() bool { return p.cli("vm", "list").code == 0 })
	equal(t, len(strings.Split(p.must("task", "logs", "-f", id), "\n")), 50)
	for i := range 2 {
		p.must("vm", "delete", fmt.Sprintf("on-%d", i))
	}
}
