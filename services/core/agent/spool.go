package agent

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// recordOverhead is what keeping a record costs beside its data. It counts
// against the limit, so that many tiny writes cannot take much memory.
const recordOverhead = 128

// coalesce is how long writes to one stream go on to fill one record.
const coalesce = 50 * time.Millisecond

// budget is the memory that all spools share.
type budget struct {
	most int64
	used atomic.Int64
}

// record is a piece of one stream's output.
type record struct {
	offset       int64 // in both streams together
	streamOffset int64
	stream       agentapi.Stream
	at           time.Time
	data         []byte
}

func (r *record) end() int64 { return r.offset + int64(len(r.data)) }

// spool keeps a process's output for whoever follows, in bounded memory.
//
// When it is full there are two ways. With nobody attached it keeps what it has,
// the beginning, and counts and drops what comes. While somebody is attached it
// slides: what all attached readers have taken makes room, and the process waits
// when there is none, as it would for a slow terminal.
type spool struct {
	limit  int64
	budget *budget

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew with every change
	records   []*record
	size      int64 // of data and overhead kept
	total     int64 // of both streams, kept or not
	streams   [3]int64
	truncated bool
	closed    bool
	attached  map[*follower]bool
}

// follower is one reader's place.
type follower struct {
	offset int64 // all before it is taken
}

func newSpool(limit int64, b *budget) *spool {
	return &spool{limit: limit, budget: b, changed: make(chan struct{}), attached: make(map[*follower]bool)}
}

// wake tells everybody who waits that something is different. The lock is held.
func (s *spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// write takes all of data, and may keep the caller waiting: see spool.
func (s *spool) write(stream agentapi.Stream, data []byte) {
	for len(data) > 0 {
		s.mu.Lock()
		n := s.keep(stream, data)
		if n == 0 && len(s.attached) > 0 && !s.closed {
			if !s.slide() {
				wait := s.changed
				s.mu.Unlock()
				<-wait
				continue
			}
			s.mu.Unlock()
			continue
		}
		if n == 0 { // nobody to wait for: count and drop
			n = len(data)
			s.truncated = true
			s.advance(stream, int64(n))
		}
		s.wake()
		s.mu.Unlock()
		data = data[n:]
	}
}

func (s *spool) advance(stream agentapi.Stream, n int64) {
	s.total += n
	s.streams[stream] += n
}

// keep stores as much of data as there is room for.
func (s *spool) keep(stream agentapi.Stream, data []byte) int {
	now := time.Now()
	if last := s.last(); last != nil && last.stream == stream && last.end() == s.total &&
		len(last.data) < agentapi.MaxChunk/2 && now.Sub(last.at) < coalesce {
		n := min(len(data), agentapi.MaxChunk-len(last.data), s.room(0))
		if n > 0 {
			last.data = append(last.data, data[:n]...)
			s.account(int64(n))
			s.advance(stream, int64(n))
		}
		return max(n, 0)
	}
	n := min(len(data), agentapi.MaxChunk, s.room(recordOverhead))
	if n <= 0 {
		return 0
	}
	s.records = append(s.records, &record{
		offset: s.total, streamOffset: s.streams[stream], stream: stream, at: now, data: append([]byte(nil), data[:n]...),
	})
	s.account(int64(n) + recordOverhead)
	s.advance(stream, int64(n))
	return n
}

func (s *spool) last() *record {
	if len(s.records) == 0 {
		return nil
	}
	return s.records[len(s.records)-1]
}

// room is how many bytes can be kept beside an overhead.
func (s *spool) room(overhead int64) int {
	return int(min(s.limit-s.size, s.budget.most-s.budget.used.Load()) - overhead)
}

func (s *spool) account(n int64) {
	s.size += n
	s.budget.used.Add(n)
}

// slide drops the oldest record that every attached reader has taken.
func (s *spool) slide() bool {
	if len(s.records) == 0 {
		return false
	}
	first := s.records[0]
	for f := range s.attached {
		if f.offset < first.end() {
			return false
		}
	}
	s.records[0] = nil
	s.records = s.records[1:]
	s.account(-int64(len(first.data)) - recordOverhead)
	return true
}

// close says that no more output comes.
func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.wake()
	}
}

// free gives the memory back.
func (s *spool) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(-s.size)
	s.records = nil
}

// join makes a reader's place. A reader that is attached holds the spool: see
// spool. leave must follow.
func (s *spool) join(offset int64, attach bool) *follower {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &follower{offset: offset}
	if attach {
		s.attached[f] = true
	}
	return f
}

func (s *spool) leave(f *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attached, f)
	s.wake()
}

// taken moves a reader's place.
func (s *spool) taken(f *follower, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.offset = offset
	if s.attached[f] {
		s.wake()
	}
}

// next answers what a reader gets at its place: output, or the length of a gap,
// or, with neither, a channel that is closed when there may be more; end says
// that there will be none.
func (s *spool) next(f *follower) (out *agentapi.Output, gap int64, more <-chan struct{}, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.records), func(i int) bool { return s.records[i].end() > f.offset })
	if i == len(s.records) {
		if s.closed {
			return nil, max(s.total-f.offset, 0), nil, true
		}
		return nil, 0, s.changed, false
	}
	r := s.records[i]
	if r.offset > f.offset {
		return nil, r.offset - f.offset, nil, false
	}
	skip := f.offset - r.offset
	return output(r, skip), 0, nil, false
}
