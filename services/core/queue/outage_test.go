package queue

import (
	"context"
	"testing"

	"github.com/aetherium/aetherium/libs/types"
)

func TestAConsumerOutlastsAnOutageAndAFlush(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	q := open(t, "redis://"+s.addr())
	got := make(chan Entry, 16)
	consume(t, q, "w", 4, func(_ context.Context, e Entry) { got <- e })
	events, err := q.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := Entry{TaskID: "t", Attempt: 1, WorkerID: "w", Priority: types.PriorityDefault}
	enqueue(t, q, e)
	receive(t, got, "an entry before")

	s.do("FLUSHALL")
	s.do("SCRIPT", "FLUSH")
	e.Attempt++
	enqueue(t, q, e)
	if g := receive(t, got, "an entry after the flush"); g != e {
		t.Fatalf("got %+v", g)
	}

	s.kill()
	e.Attempt++
	if err := q.Enqueue(t.Context(), e); types.KindOf(err) != types.KindUnavailable {
		t.Fatalf("enqueue during the outage: %v", err)
	}
	if err := q.Ping(t.Context()); types.KindOf(err) != types.KindUnavailable {
		t.Fatalf("ping during the outage: %v", err)
	}
	s.start()
	eventually(t, "Redis is back", func() bool { return q.Ping(context.Background()) == nil })
	enqueue(t, q, e)
	if g := receive(t, got, "an entry after the outage"); g != e {
		t.Fatalf("got %+v", g)
	}
	for ev := range events {
		if ev.Type == EventResync {
			return
		}
	}
	t.Fatal("no resync after the outage")
}

func TestAnEntrySetAsideByAsynqIsForgotten(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, q *Queue) {
		e := Entry{TaskID: "t", Attempt: 1, WorkerID: "w", Priority: types.PriorityDefault}
		enqueue(t, q, e)
		if err := q.inspector.ArchiveTask(e.queue(), e.id()); err != nil {
			t.Fatal(err)
		}
		if p := place(t, q, e); p != Missing {
			t.Fatalf("an archived entry is %s", p)
		}
		enqueue(t, q, e)
		if p := place(t, q, e); p != Waiting {
			t.Fatalf("put again it is %s", p)
		}
	})
}
