package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/dispatch"
	"github.com/aetherium/aetherium/services/core/image"
	"github.com/aetherium/aetherium/services/core/queue"
	"github.com/aetherium/aetherium/services/core/store"
	"github.com/aetherium/aetherium/services/core/worker"
)

// noop is a task type of the benchmark's own: its handler does nothing.
const noop types.TaskType = "bench:noop"

// pipeline is store, dispatcher, queue and worker, without VMs.
type pipeline struct {
	store    *store.Store
	dispatch *dispatch.Dispatcher
	worker   *worker.Worker
	began    sync.Map // task id → time.Time of its handler's begin
	ended    atomic.Int64
	stop     func()
}

func (b *bench) pipeline(databaseURL, queueURL string) (*pipeline, error) {
	ctx, cancel := context.WithCancel(b.ctx)
	s, err := store.Open(ctx, databaseURL)
	if err != nil {
		cancel()
		return nil, err
	}
	if err := s.Migrate(ctx); err != nil {
		cancel()
		return nil, err
	}
	q, err := queue.Open(ctx, queueURL)
	if err != nil {
		cancel()
		return nil, err
	}
	s.OnEvents(func(e []types.Event) { _ = q.Publish(ctx, e) })
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	data, err := os.MkdirTemp(b.dir, "pipe")
	if err != nil {
		cancel()
		return nil, err
	}
	images, err := image.Open(filepath.Join(data, "images"), image.Options{})
	if err != nil {
		cancel()
		return nil, err
	}
	p := &pipeline{store: s, dispatch: dispatch.New(dispatch.Config{Store: s, Queue: q, Log: log})}
	p.worker, err = worker.New(worker.Config{
		Store: s, Queue: q, DataDir: data, Images: images, Address: "unix:///nowhere", Log: log,
		Handlers: map[types.TaskType]worker.Handler{noop: func(_ context.Context, j *worker.Job) (store.TaskEnd, error) {
			p.began.Store(j.Task.ID, time.Now())
			p.ended.Add(1)
			return store.TaskEnd{}, nil
		}},
	})
	if err != nil {
		cancel()
		return nil, err
	}
	var running sync.WaitGroup
	running.Go(func() { _ = p.dispatch.Run(ctx) })
	running.Go(func() { _ = p.worker.Run(ctx) })
	p.stop = func() { cancel(); running.Wait(); _ = q.Close(); _ = s.Close() }
	deadline := time.Now().Add(20 * time.Second)
	for {
		w, err := s.GetWorker(ctx, p.worker.ID())
		if err == nil && w.State == types.WorkerReady {
			return p, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the worker is not ready: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// submit does what the gateway does for a task: record it and have it placed.
func (p *pipeline) submit(ctx context.Context) (string, error) {
	id := uuid.Must(uuid.NewV7()).String()
	_, _, err := p.store.CreateTask(ctx, types.Task{ID: id, Type: noop, WorkerID: p.worker.ID()}, store.Idempotency{})
	p.dispatch.Kick()
	return id, err
}

func (p *pipeline) await(n int64) error {
	deadline := time.Now().Add(2 * time.Minute)
	for p.ended.Load() < n {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d tasks ended within two minutes", p.ended.Load(), n)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// queueOverhead measures from the answer to a client to the handler's begin, on
// both queues.
func (b *bench) queueOverhead() error {
	redis, err := b.redis()
	if err != nil {
		return err
	}
	postgres, err := b.postgres()
	if err != nil {
		return err
	}
	for _, pair := range []struct{ name, database, queue string }{
		{"SQLite and in-process Redis", "sqlite://" + filepath.Join(b.dir, "queue.db"), "embedded"},
		{"PostgreSQL and Redis", postgres, redis},
	} {
		p, err := b.pipeline(pair.database, pair.queue)
		if err != nil {
			return err
		}
		const n = 200
		var times []time.Duration
		for i := range int64(n) {
			id, err := p.submit(b.ctx)
			if err != nil {
				return err
			}
			answered := time.Now()
			if err := p.await(i + 1); err != nil {
				return err
			}
			at, _ := p.began.Load(id)
			times = append(times, max(at.(time.Time).Sub(answered), 0))
			time.Sleep(time.Duration(i%7) * time.Millisecond) // not in step with any polling
		}
		p.stop()
		b.series("queue overhead, "+pair.name, "from the answer to the handler's begin", "p50 ≤ 10, p99 ≤ 50 ms", times)
	}
	b.noopURLs = [2]string{postgres, redis}
	return nil
}

// throughput measures tasks a second through PostgreSQL and Redis, and raw Asynq
// on the same Redis.
func (b *bench) throughput() error {
	const n, clients = 6000, 16
	p, err := b.pipeline(b.noopURLs[0], b.noopURLs[1])
	if err != nil {
		return err
	}
	began := time.Now()
	var left atomic.Int64
	left.Store(n)
	errs := make(chan error, clients)
	for range clients {
		go func() {
			for left.Add(-1) >= 0 {
				if _, err := p.submit(b.ctx); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			return err
		}
	}
	if err := p.await(n); err != nil {
		return err
	}
	ours := n / time.Since(began).Seconds()
	p.stop()
	raw, err := rawAsynq(b.noopURLs[1], n)
	if err != nil {
		return err
	}
	const group = "no-op tasks a second"
	b.add(figure{Name: "through PostgreSQL and Redis", Unit: "/s", N: n, P50: ours, Goal: "at least 1000/s", Group: group})
	b.add(figure{Name: "raw Asynq on the same Redis", Unit: "/s", N: n, P50: raw, Group: group})
	b.add(figure{Name: "ratio to raw Asynq", N: n, P50: ours / raw})
	return nil
}

func rawAsynq(url string, n int64) (float64, error) {
	opt, err := asynq.ParseRedisURI(url)
	if err != nil {
		return 0, err
	}
	client := asynq.NewClient(opt)
	defer func() { _ = client.Close() }()
	var done atomic.Int64
	server := asynq.NewServer(opt, asynq.Config{Concurrency: 64, TaskCheckInterval: 5 * time.Millisecond, LogLevel: asynq.FatalLevel})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { done.Add(1); return nil })); err != nil {
		return 0, err
	}
	defer server.Shutdown()
	began := time.Now()
	var left atomic.Int64
	left.Store(n)
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for left.Add(-1) >= 0 {
				_, _ = client.Enqueue(asynq.NewTask("noop", nil))
			}
		})
	}
	clients.Wait()
	for deadline := time.Now().Add(2 * time.Minute); done.Load() < n; {
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("raw Asynq did %d of %d tasks within two minutes", done.Load(), n)
		}
		time.Sleep(time.Millisecond)
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// service starts a private server until the run ends.
func (b *bench) service(cmd *exec.Cmd, address string) error {
	cmd.Dir = b.dir
	if err := cmd.Start(); err != nil {
		return err
	}
	b.undo = append(b.undo, func() { _ = cmd.Process.Signal(syscall.SIGINT); _ = cmd.Wait() })
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return nil
		}
	}
	return fmt.Errorf("%s does not answer", cmd.Path)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

func (b *bench) redis() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", b.dir)
	return "redis://127.0.0.1:" + port, b.service(cmd, "127.0.0.1:"+port)
}

// postgres starts a server with its durability on, as the user postgres.
func (b *bench) postgres() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", fmt.Errorf("no PostgreSQL: apt-get install postgresql")
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return "", err
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	dir := b.dir + "-pg"
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	b.undo = append(b.undo, func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return "", err
	}
	as := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		cmd.Dir = dir
		return cmd
	}
	if out, err := as(exec.Command(found[0], "-D", dir+"/data", "-U", "postgres", "-A", "trust")).CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	cmd := as(exec.Command(filepath.Join(filepath.Dir(found[0]), "postgres"), "-D", dir+"/data", "-k", dir, "-h", "127.0.0.1", "-p", port))
	if err := cmd.Start(); err != nil {
		return "", err
	}
	b.undo = append(b.undo, func() { _ = cmd.Process.Signal(syscall.SIGINT); _ = cmd.Wait() })
	url := "postgres://postgres@127.0.0.1:" + port + "/postgres"
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if s, err := store.Open(b.ctx, url); err == nil {
			return url, s.Close()
		}
	}
	return "", fmt.Errorf("PostgreSQL does not answer")
}
