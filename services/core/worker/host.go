package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
)

// identity answers the worker id in a data folder, and makes one up if there is
// none.
func identity(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", types.Errorf(types.KindInternal, "make the data folder: %w", err)
	}
	file := filepath.Join(dir, "worker-id")
	data, err := os.ReadFile(file)
	if err == nil {
		id, err := uuid.Parse(strings.TrimSpace(string(data)))
		if err != nil {
			return "", types.Errorf(types.KindInvalid, "%s does not hold a worker id", file).
				WithRemedy("delete the file if no VM of this worker is left")
		}
		return id.String(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", types.Errorf(types.KindInternal, "read the worker id: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", types.Errorf(types.KindInternal, "make a worker id: %w", err)
	}
	// Written beside and renamed: a crash leaves no half an id.
	if err := os.WriteFile(file+".new", []byte(id.String()+"\n"), 0o600); err != nil {
		return "", types.Errorf(types.KindInternal, "write the worker id: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return "", types.Errorf(types.KindInternal, "write the worker id: %w", err)
	}
	return id.String(), nil
}

// capacity measures what this host offers.
func (w *Worker) capacity() (types.Capacity, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return types.Capacity{}, fmt.Errorf("measure memory: %w", err)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(w.cfg.DataDir, &disk); err != nil {
		return types.Capacity{}, fmt.Errorf("measure the disk of %s: %w", w.cfg.DataDir, err)
	}
	const mib = 1 << 20
	return types.Capacity{
		VCPUs:     int(float64(goruntime.NumCPU()) * w.cfg.CPUOvercommit),
		MemoryMiB: int(uint64(info.Totalram) * uint64(info.Unit) / mib),
		DiskMiB:   int(float64(disk.Blocks*uint64(disk.Bsize)/mib) * w.cfg.DiskOvercommit),
	}, nil
}

// register writes the worker's record, with what is known of its runtimes.
func (w *Worker) register(ctx context.Context) error {
	capacity, err := w.capacity()
	if err != nil {
		return types.Errorf(types.KindInvalid, "register worker: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return types.Errorf(types.KindInvalid, "register worker: %w", err)
	}
	return w.cfg.Store.RegisterWorker(ctx, types.Worker{
		ID: w.id, Hostname: host, State: types.WorkerReady, Address: w.cfg.Address, Labels: w.cfg.Labels,
		Runtimes: w.statuses(), Capacity: capacity, Version: w.cfg.Version,
		StartedAt: w.started, HeartbeatAt: time.Now().UTC(),
	})
}

func (w *Worker) statuses() []types.RuntimeStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.runtimes == nil {
		for _, r := range w.cfg.Runtimes {
			w.runtimes = append(w.runtimes, types.RuntimeStatus{Name: r.Name(), Reason: "is being proven"})
		}
	}
	return slices.Clone(w.runtimes)
}

// proveAgain is how often a runtime that could not be proven is tried again.
const proveAgain = time.Minute

// prove runs a guest in each runtime and records which of them work. It comes
// after registration, so that a worker takes up its VMs before it offers more.
func (w *Worker) prove(ctx context.Context) {
	for {
		again := false
		for i, r := range w.cfg.Runtimes {
			if w.statuses()[i].Proven {
				continue
			}
			status := r.Probe(ctx)
			if ctx.Err() != nil {
				return
			}
			if !status.Proven {
				again = true
				w.log.Warn("runtime is not proven", "runtime", r.Name(), "reason", status.Reason)
			}
			w.mu.Lock()
			w.runtimes[i] = status
			w.mu.Unlock()
		}
		if err := w.insist(ctx, "record proven runtimes", w.register); err != nil {
			return
		}
		if !again || !pause(ctx, proveAgain) {
			return
		}
	}
}

// heartbeat keeps the worker's record fresh until ctx ends. A worker that was
// declared lost meanwhile joins again and takes stock: its VMs were given up.
func (w *Worker) heartbeat(ctx context.Context) {
	for pause(ctx, w.cfg.HeartbeatEvery) {
		if err := w.beat(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("heartbeat failed; will try again", "error", err)
		}
	}
}

func (w *Worker) beat(ctx context.Context) error {
	err := w.cfg.Store.Heartbeat(ctx, w.id, time.Now().UTC())
	switch types.KindOf(err) {
	case types.KindConflict, types.KindNotFound:
	default:
		return err
	}
	w.log.Warn("worker had been declared lost; it joins again")
	if err := w.register(ctx); err != nil {
		return err
	}
	return w.adopt(ctx)
}
