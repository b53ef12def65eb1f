package stream

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/store"
)

const (
	// pollEvents is how often the event table is looked at when nothing tells of
	// a change. An event may also become visible only after the word of it, when
	// an older transaction was still open.
	pollEvents   = time.Second
	eventBatch   = 500
	defaultBatch = 100
)

// EventPage is a piece of the record of events, oldest first.
type EventPage struct {
	Items []types.Event `json:"items"`
	// NextCursor is what to send as after for what follows. It is set even where
	// nothing follows yet.
	NextCursor string `json:"next_cursor" doc:"Send it as after to go on."`
}

// Events answers what has changed: a page of the record in JSON, or, for a
// client that accepts text/event-stream, every change from now on or from
// Last-Event-ID.
func (s *Server) Events(w http.ResponseWriter, r *http.Request) {
	p := queryOf(r, "vm", "task", "type", "after", "limit")
	f := store.EventFilter{
		TaskID:  p.text("task"),
		Types:   p.values["type"],
		AfterID: p.resumeFrom(r, p.number("after", -1, 0, math.MaxInt64)),
		Limit:   int(p.number("limit", defaultBatch, 1, eventBatch)),
	}
	err := p.err()
	if err == nil {
		f.VMID, err = s.vmID(r, p.text("vm"))
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	if Wants(r) {
		s.liveEvents(w, r, f)
		return
	}
	f.AfterID = max(f.AfterID, 0)
	s.eventPage(w, r, f)
}

func (s *Server) vmID(r *http.Request, idOrName string) (string, error) {
	if idOrName == "" {
		return "", nil
	}
	vm, err := s.Store.GetVM(r.Context(), idOrName)
	return vm.ID, err
}

func (s *Server) eventPage(w http.ResponseWriter, r *http.Request, f store.EventFilter) {
	events, err := s.Store.Events(r.Context(), f)
	if err != nil {
		fail(w, r, err)
		return
	}
	page := EventPage{Items: events, NextCursor: strconv.FormatInt(f.AfterID, 10)}
	if len(events) == 0 {
		page.Items = []types.Event{}
	} else {
		page.NextCursor = strconv.FormatInt(events[len(events)-1].ID, 10)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(page) // the client may have gone
}

func (s *Server) liveEvents(w http.ResponseWriter, r *http.Request, f store.EventFilter) {
	watch := s.Hub.Watch("", recorded)
	defer watch.Close()
	if f.AfterID < 0 {
		last, err := s.Store.LastEventID(r.Context())
		if err != nil {
			fail(w, r, err)
			return
		}
		f.AfterID = last
	}
	f.Limit = eventBatch
	out, stop := openSSE(r.Context(), w)
	defer stop()
	err := watch.Until(r.Context(), pollEvents, func() (bool, error) {
		for {
			events, err := s.Store.Events(r.Context(), f)
			if err != nil || len(events) == 0 {
				return false, err
			}
			for _, e := range events {
				if err := out.send(e.Type, e.ID, e); err != nil {
					return false, err
				}
				f.AfterID = e.ID
			}
		}
	})
	s.end(r, err)
}

// recorded tells events of the record from mere words of new output.
func recorded(e types.Event) bool { return e.ID > 0 }
