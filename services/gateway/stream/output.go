package stream

import (
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

const (
	// pollOutput is how often the output of a running command is looked for when
	// nothing tells of it.
	pollOutput = 250 * time.Millisecond

	defaultOutputPage = 256 << 10
	maxOutputPage     = 1 << 20
)

// OutputPage is a piece of a task's output.
type OutputPage struct {
	Items      []types.OutputChunk `json:"items"`
	NextOffset int64               `json:"next_offset" doc:"Ask for this offset next."`
	Ended      bool                `json:"ended" doc:"No more will come."`
}

// outputQuery is what a client wants of a task's output.
type outputQuery struct {
	taskID string
	stream types.Stream
	offset int64
	limit  int
}

// TaskOutput answers a task's output: a page of it in JSON, all of it as it is
// (raw), or live as server-sent events.
func (s *Server) TaskOutput(w http.ResponseWriter, r *http.Request) {
	p := queryOf(r, "offset", "stream", "limit", "follow", "raw")
	o := outputQuery{
		taskID: r.PathValue("task"),
		stream: types.Stream(p.text("stream")),
		offset: p.resumeFrom(r, p.number("offset", 0, 0, math.MaxInt64)),
		limit:  int(p.number("limit", defaultOutputPage, 1, maxOutputPage)),
	}
	follow, raw := p.flag("follow"), p.flag("raw")
	if o.stream != "" && o.stream != types.Stdout && o.stream != types.Stderr {
		p.wrong("stream", "is no stream", `use "stdout" or "stderr", or leave it out for both`)
	}
	if err := p.err(); err != nil {
		fail(w, r, err)
		return
	}
	task, err := s.Store.GetTask(r.Context(), o.taskID)
	if err != nil {
		fail(w, r, err)
		return
	}
	switch {
	case raw:
		s.rawOutput(w, r, o, follow)
	case follow || Wants(r):
		s.liveOutput(w, r, o)
	default:
		s.outputPage(w, r, o, task)
	}
}

func (s *Server) outputPage(w http.ResponseWriter, r *http.Request, o outputQuery, task types.Task) {
	// The task was read first: if it had ended then, its output was whole.
	chunks, err := s.Store.ReadOutput(r.Context(), o.taskID, o.stream, o.offset, o.limit)
	if err != nil {
		fail(w, r, err)
		return
	}
	page := OutputPage{Items: chunks, NextOffset: after(o.offset, chunks), Ended: task.State.Ended()}
	if page.Items == nil {
		page.Items = []types.OutputChunk{}
	}
	if page.Ended && len(chunks) > 0 {
		more, err := s.Store.ReadOutput(r.Context(), o.taskID, o.stream, page.NextOffset, 1)
		if err != nil {
			fail(w, r, err)
			return
		}
		page.Ended = len(more) == 0
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(page) // the client may have gone
}

// liveOutput sends each chunk as it comes, with the offset after it as its id,
// and at last the task as it ended.
func (s *Server) liveOutput(w http.ResponseWriter, r *http.Request, o outputQuery) {
	out, stop := openSSE(r.Context(), w)
	defer stop()
	at := o.offset
	task, err := s.follow(r, o, func(c types.OutputChunk) error {
		at = c.End()
		return out.send("output", at, c)
	})
	if err == nil {
		err = out.send("end", at, task)
	}
	s.end(r, err)
}

// rawOutput sends the bytes alone, up to now or, if asked to follow, up to the
// task's end.
func (s *Server) rawOutput(w http.ResponseWriter, r *http.Request, o outputQuery, follow bool) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	ctrl := http.NewResponseController(w)
	defer func() { _ = ctrl.SetWriteDeadline(time.Time{}) }()
	put := func(c types.OutputChunk) error {
		_ = ctrl.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := w.Write(c.Data); err != nil || !follow {
			return err
		}
		return ctrl.Flush()
	}
	if follow {
		_ = ctrl.Flush() // the headers go at once
		_, err := s.follow(r, o, put)
		s.end(r, err)
		return
	}
	_, err := s.drain(r, o, put)
	s.end(r, err)
}

// follow hands every chunk from o.offset on to put, as they come, and answers
// the task once it has ended and all its output is handed on.
func (s *Server) follow(r *http.Request, o outputQuery, put func(types.OutputChunk) error) (types.Task, error) {
	watch := s.Hub.Watch(o.taskID, nil)
	defer watch.Close()
	var task types.Task
	err := watch.Until(r.Context(), pollOutput, func() (bool, error) {
		var err error
		// The task before its output: what it wrote is stored before it ends.
		if task, err = s.Store.GetTask(r.Context(), o.taskID); err != nil {
			return false, err
		}
		o.offset, err = s.drain(r, o, put)
		return task.State.Ended(), err
	})
	return task, err
}

// drain hands on what is stored now and answers the offset after it.
func (s *Server) drain(r *http.Request, o outputQuery, put func(types.OutputChunk) error) (int64, error) {
	for {
		chunks, err := s.Store.ReadOutput(r.Context(), o.taskID, o.stream, o.offset, defaultOutputPage)
		if err != nil || len(chunks) == 0 {
			return o.offset, err
		}
		for _, c := range chunks {
			if err := put(c); err != nil {
				return o.offset, err
			}
		}
		o.offset = after(o.offset, chunks)
	}
}

func after(offset int64, chunks []types.OutputChunk) int64 {
	if len(chunks) == 0 {
		return offset
	}
	return chunks[len(chunks)-1].End()
}
