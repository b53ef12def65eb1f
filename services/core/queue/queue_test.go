package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// onBoth runs a test on the in-process Redis and on a real one.
func onBoth(t *testing.T, test func(t *testing.T, q *Queue)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, Embedded))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, "redis://"+startRedis(t).addr()))
	})
}

func open(t *testing.T, url string) *Queue {
	t.Helper()
	q, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

// consume runs a consumer until the test ends or stop is called.
func consume(t *testing.T, q *Queue, worker string, n int, handle func(context.Context, Entry)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Consume(ctx, worker, n, handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("consume: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func enqueue(t *testing.T, q *Queue, e Entry) {
	t.Helper()
	if err := q.Enqueue(context.Background(), e); err != nil {
		t.Fatal(err)
	}
}

func place(t *testing.T, q *Queue, e Entry) Place {
	t.Helper()
	p, err := q.Lookup(context.Background(), e)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("channel closed: %s", what)
		}
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("not within 20 s: %s", what)
	}
	panic("unreachable")
}

func TestAnEntryReachesItsWorkerOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, q *Queue) {
		e := Entry{TaskID: "t1", Attempt: 1, WorkerID: "w1", Priority: types.PriorityHigh}
		if p := place(t, q, e); p != Missing {
			t.Fatalf("before: %s", p)
		}
		enqueue(t, q, e)
		enqueue(t, q, e) // a duplicate is nil, and no second entry
		if p := place(t, q, e); p != Waiting {
			t.Fatalf("after enqueue: %s", p)
		}
		got := make(chan Entry, 8)
		release := make(chan struct{})
		consume(t, q, "w1", 4, func(_ context.Context, e Entry) { got <- e; <-release })
		if g := receive(t, got, "the entry"); g != e {
			t.Fatalf("got %+v", g)
		}
		if p := place(t, q, e); p != Active {
			t.Fatalf("while handled: %s", p)
		}
		enqueue(t, q, e) // still the same attempt: no entry
		next := e
		next.Attempt = 2
		enqueue(t, q, next) // another attempt is another entry
		if g := receive(t, got, "the next attempt"); g != next {
			t.Fatalf("got %+v", g)
		}
		close(release)
		eventually(t, "both are done", func() bool { return place(t, q, e) == Missing && place(t, q, next) == Missing })
		if len(got) != 0 {
			t.Fatalf("a duplicate was delivered: %+v", <-got)
		}
	})
}

func TestOtherWorkersEntriesAreLeftAlone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, q *Queue) {
		got := make(chan Entry, 8)
		consume(t, q, "w1", 4, func(_ context.Context, e Entry) { got <- e })
		other := Entry{TaskID: "t", Attempt: 1, WorkerID: "w2", Priority: types.PriorityDefault}
		mine := Entry{TaskID: "t", Attempt: 1, WorkerID: "w1", Priority: types.PriorityLow}
		enqueue(t, q, other)
		enqueue(t, q, mine)
		if g := receive(t, got, "mine"); g != mine {
			t.Fatalf("got %+v", g)
		}
		if p := place(t, q, other); p != Waiting {
			t.Fatalf("the other worker's entry is %s", p)
		}
	})
}

func TestPrioritiesAreSharesAndLowIsNotStarved(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, q *Queue) {
		const each = 60
		for i := range each {
			for _, p := range types.Priorities() {
				enqueue(t, q, Entry{TaskID: fmt.Sprintf("%s-%d", p, i), Attempt: 1, WorkerID: "w", Priority: p})
			}
		}
		order := make(chan types.Priority, 4*each)
		consume(t, q, "w", 1, func(_ context.Context, e Entry) { order <- e.Priority })
		var got []types.Priority
		for range 4 * each {
			got = append(got, receive(t, order, "an entry"))
		}
		mean := func(p types.Priority) (sum int) {
			for i, g := range got {
				if g == p {
					sum += i
				}
			}
			return sum / each
		}
		if !(mean(types.PriorityCritical) < mean(types.PriorityDefault) && mean(types.PriorityDefault) < mean(types.PriorityLow)) {
			t.Errorf("mean places: critical %d, default %d, low %d", mean(types.PriorityCritical), mean(types.PriorityDefault), mean(types.PriorityLow))
		}
		// One share of fifteen: before half of all is done, low had its turn.
		if i := slices.Index(got, types.PriorityLow); i < 0 || i > 2*each {
			t.Errorf("first low entry came at place %d", i)
		}
	})
}

func TestPickUpIsPromptWhenIdle(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, q *Queue) {
		got := make(chan Entry)
		consume(t, q, "w", 4, func(_ context.Context, e Entry) { got <- e })
		var waits []time.Duration
		for i := range 40 {
			e := Entry{TaskID: fmt.Sprint(i), Attempt: 1, WorkerID: "w", Priority: types.PriorityDefault}
			start := time.Now()
			enqueue(t, q, e)
			receive(t, got, "the entry")
			waits = append(waits, time.Since(start))
			eventually(t, "the entry is done", func() bool { return place(t, q, e) == Missing })
		}
		slices.Sort(waits)
		t.Logf("pick-up: p50 %v, max %v", waits[len(waits)/2], waits[len(waits)-1])
		if p50 := waits[len(waits)/2]; p50 > 50*time.Millisecond {
			t.Errorf("p50 of pick-up is %v: the wake does not work", p50)
		}
	})
}

func TestShutdownWaitsForNoHandlerThatHeedsItsContext(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, q *Queue) {
		started := make(chan struct{})
		stop := consume(t, q, "w", 1, func(ctx context.Context, _ Entry) { close(started); <-ctx.Done() })
		enqueue(t, q, Entry{TaskID: "t", Attempt: 1, WorkerID: "w", Priority: types.PriorityDefault})
		<-started
		begin := time.Now()
		stop()
		if d := time.Since(begin); d > shutdownLimit {
			t.Errorf("shutdown took %v", d)
		}
	})
}
