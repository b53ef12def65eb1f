package worker

import (
	"cmp"
	"context"
	"encoding/base64"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aetherium/aetherium/libs/types"
)

const (
	flushAfter   = 100 * time.Millisecond // how old output may get before it is stored
	flushSize    = 64 << 10               // how much output may gather before it is stored
	headSize     = 64 << 10               // what of each stream stands in the result
	defaultLimit = 16 << 20               // output stored of a task that names no limit
	readBack     = 1 << 20                // output read from the store at once
)

// recorder stores a command's output in batches and keeps the first part of each
// stream for the result. While the store does not take output, add blocks, and
// so the guest's spool fills instead of the host's memory.
type recorder struct {
	store func([]types.OutputChunk) error // retries until done or the job is over
	limit int64

	mu        sync.Mutex
	pending   []types.OutputChunk
	size      int   // bytes pending
	offset    int64 // the next byte to come
	stored    int64 // bytes stored or pending
	truncated bool
	heads     map[types.Stream]*head
	timer     *time.Timer
	err       error
}

// head is the first part of a stream.
type head struct {
	data  []byte
	bytes int64 // seen in all
}

// recorder makes a job's recorder, with what an earlier process stored.
func (w *Worker) recorder(ctx context.Context, j *Job, spec types.ExecSpec) (*recorder, error) {
	// Not the job's context: a canceled command's last output is kept too.
	keep := context.WithoutCancel(ctx)
	r := &recorder{
		limit: cmp.Or(spec.OutputLimit, defaultLimit),
		heads: map[types.Stream]*head{types.Stdout: {}, types.Stderr: {}},
		store: func(chunks []types.OutputChunk) error {
			keep, cancel := context.WithCancelCause(keep)
			defer cancel(nil)
			defer context.AfterFunc(w.life, func() { cancel(errLeft) })()
			return w.insist(keep, "store output", func(ctx context.Context) error {
				err := w.cfg.Store.AppendOutput(ctx, j.Task.ID, chunks)
				if err == nil {
					w.tell(ctx, types.Event{Type: types.EventTaskOutput, TaskID: j.Task.ID, VMID: j.Task.VMID, WorkerID: w.id})
				}
				return err
			})
		},
	}
	if !j.Resumed && j.Task.Attempt == 1 {
		return r, nil
	}
	for {
		chunks, err := w.cfg.Store.ReadOutput(ctx, j.Task.ID, "", r.offset, readBack)
		if err != nil {
			return nil, err
		}
		if len(chunks) == 0 {
			return r, nil
		}
		for _, c := range chunks {
			r.take(c)
		}
	}
}

// tell publishes an event that is not kept. Who misses it looks again by itself.
func (w *Worker) tell(ctx context.Context, e types.Event) {
	e.At = time.Now().UTC()
	if err := w.cfg.Queue.Publish(ctx, []types.Event{e}); err != nil {
		w.log.Debug("event was not published", "type", e.Type, "error", err)
	}
}

// next is the offset of the next byte to come.
func (r *recorder) next() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.offset
}

// take counts a chunk and answers what of it is new and within the limit.
func (r *recorder) take(c types.OutputChunk) types.OutputChunk {
	if skip := r.offset - c.Offset; skip > 0 {
		n := min(skip, int64(len(c.Data)))
		c.Data, c.Offset, c.StreamOffset = c.Data[n:], c.Offset+n, c.StreamOffset+n
	}
	if len(c.Data) == 0 {
		return c
	}
	if c.Offset > r.offset {
		r.truncated = true // bytes are missing that no gap told of
	}
	r.offset = c.End()
	if h := r.heads[c.Stream]; h != nil {
		h.bytes = c.StreamOffset + int64(len(c.Data))
		// Past a gap there is no first part any more.
		if room := headSize - len(h.data); room > 0 && c.StreamOffset == int64(len(h.data)) {
			h.data = append(h.data, c.Data[:min(room, len(c.Data))]...)
		}
	}
	if room := r.limit - r.stored; int64(len(c.Data)) > room {
		c.Data, r.truncated = c.Data[:max(room, 0)], true
	}
	r.stored += int64(len(c.Data))
	return c
}

// add takes output in, and stores what has gathered once it is enough.
func (r *recorder) add(c types.OutputChunk) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c = r.take(c)
	if len(c.Data) == 0 {
		return r.err
	}
	if n := len(r.pending) - 1; n >= 0 && r.pending[n].Stream == c.Stream && r.pending[n].End() == c.Offset {
		r.pending[n].Data = append(r.pending[n].Data, c.Data...)
	} else {
		c.Data = append([]byte(nil), c.Data...)
		r.pending = append(r.pending, c)
	}
	r.size += len(c.Data)
	switch {
	case r.size >= flushSize:
		r.flush()
	case r.timer == nil:
		r.timer = time.AfterFunc(flushAfter, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.flush()
		})
	}
	return r.err
}

// failed answers why no more output can be stored, if so.
func (r *recorder) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// gap notes that output up to an offset was cut.
func (r *recorder) gap(end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.truncated = true
	r.offset = max(r.offset, end)
}

func (r *recorder) flush() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	if len(r.pending) == 0 || r.err != nil {
		return
	}
	r.err = r.store(r.pending)
	r.pending, r.size = nil, 0
}

// close stores the rest.
func (r *recorder) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush()
	return r.err
}

// fill puts the first part of each stream into a result.
func (r *recorder) fill(res *types.ExecResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out, errs := r.heads[types.Stdout], r.heads[types.Stderr]
	res.Stdout, res.StdoutEncoding = encode(out)
	res.Stderr, res.StderrEncoding = encode(errs)
	res.StdoutBytes = max(res.StdoutBytes, out.bytes)
	res.StderrBytes = max(res.StderrBytes, errs.bytes)
	res.OutputTruncated = res.OutputTruncated || r.truncated
}

// encode writes a head as text where it is UTF-8, but for a character that the
// head's end cut in two.
func encode(h *head) (text, encoding string) {
	data := h.data
	if h.bytes > int64(len(data)) {
		for cut := 1; cut < utf8.UTFMax && cut <= len(data); cut++ {
			if c := data[len(data)-cut]; utf8.RuneStart(c) {
				if !utf8.FullRune(data[len(data)-cut:]) {
					data = data[:len(data)-cut]
				}
				break
			}
		}
	}
	if utf8.Valid(data) {
		return string(data), "utf-8"
	}
	return base64.StdEncoding.EncodeToString(h.data), "base64"
}
