package queue

import (
	"testing"

	"github.com/aetherium/aetherium/libs/types"
)

func TestEventsReachEverySubscriberInOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, q *Queue) {
		first, err := q.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second, err := q.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "both are subscribed", func() bool {
			n, err := q.redis.PubSubNumSub(t.Context(), eventsChannel).Result()
			return err == nil && n[eventsChannel] == 2
		})
		for id := range int64(50) {
			if err := q.Publish(t.Context(), []types.Event{{ID: 2*id + 1, Type: "task.state", TaskID: "t"}, {ID: 2*id + 2}}); err != nil {
				t.Fatal(err)
			}
		}
		for id := range int64(100) {
			if e := receive(t, first, "an event"); e.ID != id+1 {
				t.Fatalf("first: got %d, want %d", e.ID, id+1)
			}
			if e := receive(t, second, "an event"); e.ID != id+1 {
				t.Fatalf("second: got %d, want %d", e.ID, id+1)
			}
		}
	})
}

func TestASlowReaderIsToldToReadTheStore(t *testing.T) {
	t.Parallel()
	out := make(chan types.Event, 4)
	f := feed{out: out}
	for id := range int64(10) {
		f.put(types.Event{ID: id + 1})
	}
	for want := range int64(3) {
		if e := <-out; e.ID != want+1 {
			t.Fatalf("got %+v", e)
		}
	}
	if e := <-out; e.Type != EventResync {
		t.Fatalf("got %+v, want a resync", e)
	}
	f.put(types.Event{ID: 11})
	if e := <-out; e.ID != 11 {
		t.Fatalf("after catching up: %+v", e)
	}
}
