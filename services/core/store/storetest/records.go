package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

func output(t *testing.T, f fixture) {
	_, task := f.create("v")
	binary := []byte{0, 0xff, 'a', '\n', 0xc3}
	now := time.Now().UTC().Truncate(time.Microsecond)
	chunks := []types.OutputChunk{
		{Offset: 0, Stream: types.Stdout, StreamOffset: 0, At: now, Data: binary},
		{Offset: 5, Stream: types.Stderr, StreamOffset: 0, At: now, Data: []byte("err")},
		{Offset: 8, Stream: types.Stdout, StreamOffset: 5, At: now, Data: []byte("more")},
	}
	f.ok(f.AppendOutput(t.Context(), task.ID, chunks[:2]))
	f.ok(f.AppendOutput(t.Context(), task.ID, chunks)) // the first two again
	read := func(stream types.Stream, offset int64, most int) []byte {
		t.Helper()
		got, err := f.ReadOutput(t.Context(), task.ID, stream, offset, most)
		f.ok(err)
		var all []byte
		for _, c := range got {
			all = append(all, c.Data...)
		}
		return all
	}
	for _, c := range []struct {
		stream types.Stream
		offset int64
		most   int
		want   string
	}{
		{"", 0, 100, string(binary) + "errmore"}, {"", 6, 100, "rrmore"}, {types.Stdout, 0, 100, string(binary) + "more"},
		{types.Stdout, 6, 100, "ore"}, {types.Stderr, 0, 100, "err"}, {types.Stderr, 3, 100, ""}, {"", 12, 100, ""}, {"", 0, 1, string(binary)},
	} {
		if got := read(c.stream, c.offset, c.most); !bytes.Equal(got, []byte(c.want)) {
			t.Errorf("stream %q from %d: %q, want %q", c.stream, c.offset, got, c.want)
		}
	}
	got, err := f.ReadOutput(t.Context(), task.ID, types.Stdout, 6, 100)
	f.ok(err)
	equal(f, got[0].Offset, 9)
	equal(f, got[0].At.Equal(now), true)
	err = f.AppendOutput(t.Context(), task.ID, []types.OutputChunk{{Offset: 12, Stream: types.Stdout, At: now, Data: make([]byte, store.MaxChunk+1)}})
	f.kind(err, types.KindTooLarge)
}

func eventsOrder(t *testing.T, f fixture) {
	var mu sync.Mutex
	var told []int64
	f.OnEvents(func(events []types.Event) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
			told = append(told, e.ID)
		}
	})
	vm, task := f.create("v")
	events := f.settled(2)
	equal(f, events[0].Type, types.EventVMState)
	equal(f, events[0].State, "pending")
	equal(f, events[1].TaskID, task.ID)
	for i, e := range events {
		equal(f, e.ID, told[i])
	}
	last := events[1].ID
	equal(f, f.lastEventID(last), last)
	f.settled(2)
	for filter, n := range map[*store.EventFilter]int{
		{AfterID: last}: 0, {VMID: vm.ID}: 2, {TaskID: task.ID}: 1, {Types: []string{types.EventVMState}}: 1, {Limit: 1}: 1,
	} {
		list, err := f.Events(t.Context(), *filter)
		f.ok(err)
		if len(list) > n { // fewer may be: see settled
			t.Errorf("%+v: %d events, want %d", *filter, len(list), n)
		}
	}
}

// eventsConcurrent reads while many write: whoever goes on from the last id that
// was seen must see every event.
func eventsConcurrent(t *testing.T, f fixture) {
	const writers, each = 6, 10
	done := make(chan struct{})
	go func() {
		defer close(done)
		together(writers, func(w int) {
			for i := range each {
				_, _, err := f.CreateVM(t.Context(), vmSpec(fmt.Sprintf("w%d-%d", w, i)), types.Task{ID: id(), Type: types.TaskVMCreate}, store.Idempotency{})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var last int64
	for seen := 0; seen < writers*each*2; {
		events, err := f.Events(ctx, store.EventFilter{AfterID: last})
		if err != nil {
			t.Fatalf("saw %d of %d events: %v", seen, writers*each*2, err)
		}
		for _, e := range events {
			last = e.ID
			seen++
		}
	}
	<-done
}

// settled waits until a number of events can be read: on a shared server other
// databases' transactions hold them back for a moment.
func (f fixture) settled(n int) []types.Event {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		events, err := f.Events(ctx, store.EventFilter{})
		f.ok(err)
		if len(events) >= n {
			return events
		}
	}
}

func (f fixture) lastEventID(want int64) int64 {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		last, err := f.LastEventID(ctx)
		f.ok(err)
		if last >= want {
			return last
		}
	}
}

func workerLifecycle(t *testing.T, f fixture) {
	w := f.worker(1000)
	got, err := f.GetWorker(t.Context(), w.ID)
	f.ok(err)
	equal(f, got.Labels["zone"], "1")
	equal(f, got.Runtimes[0].Proven, true)
	f.ok(f.SetWorkerState(t.Context(), w.ID, types.WorkerDraining))
	list, err := f.ListWorkers(t.Context())
	f.ok(err)
	equal(f, list[0].State, types.WorkerDraining)
	f.kind(f.SetWorkerState(t.Context(), id(), types.WorkerReady), types.KindNotFound)
	f.kind(f.Heartbeat(t.Context(), id(), time.Now()), types.KindConflict)
	_, err = f.GetWorker(t.Context(), id())
	f.kind(err, types.KindNotFound)
}

func workerLost(t *testing.T, f fixture) {
	w := f.worker(1 << 20)
	vm := f.running("runs", w)
	waiting, _ := f.create("waits")
	f.place(w)
	none, err := f.MarkLostWorkers(t.Context(), time.Now().Add(-time.Hour))
	f.ok(err)
	equal(f, len(none), 0)
	lost, err := f.MarkLostWorkers(t.Context(), time.Now().Add(time.Hour))
	f.ok(err)
	equal(f, len(lost), 1)
	vm, err = f.GetVM(t.Context(), vm.ID)
	f.ok(err)
	equal(f, vm.State, types.VMLost)
	equal(f, vm.Reason != "", true)
	waiting, err = f.GetVM(t.Context(), waiting.ID)
	f.ok(err)
	equal(f, waiting.State, types.VMPending)
	equal(f, waiting.WorkerID, "")
	f.kind(f.Heartbeat(t.Context(), w.ID, time.Now()), types.KindConflict)
	f.ok(f.RegisterWorker(t.Context(), w))
	f.ok(f.Heartbeat(t.Context(), w.ID, time.Now()))
}

func workerImages(t *testing.T, f fixture) {
	w := f.worker(1)
	i := types.WorkerImage{WorkerID: w.ID, Digest: "sha256:1", Ref: "a", SizeBytes: 1 << 40, Layers: 2, PulledAt: time.Now()}
	f.ok(f.PutWorkerImage(t.Context(), i))
	f.ok(f.PutWorkerImage(t.Context(), i))
	list, err := f.ListImages(t.Context())
	f.ok(err)
	equal(f, len(list), 1)
	equal(f, list[0].SizeBytes, 1<<40)
	f.ok(f.RemoveWorkerImage(t.Context(), w.ID, i.Digest))
	list, err = f.ListImages(t.Context())
	f.ok(err)
	equal(f, len(list), 0)
}

func migrations(t *testing.T, f fixture) {
	together(3, func(int) {
		if err := f.Migrate(t.Context()); err != nil {
			t.Error(err)
		}
	})
	f.create("kept")
	f.ok(f.MigrateTo(t.Context(), 0))
	status, err := f.MigrationStatus(t.Context())
	f.ok(err)
	equal(f, slices.ContainsFunc(status, func(m store.Migration) bool { return m.Applied }), false)
	_, err = f.GetVM(t.Context(), "kept")
	f.kind(err, types.KindInternal)
	f.ok(f.Migrate(t.Context()))
	f.create("again")
	f.kind(f.MigrateTo(t.Context(), 99999), types.KindInvalid)
}
