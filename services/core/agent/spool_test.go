package agent

import (
	"bytes"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/agentapi"
)

const (
	out    = agentapi.Stream_STREAM_STDOUT
	errOut = agentapi.Stream_STREAM_STDERR
)

func testSpool(limit int64) *spool { return newSpool(limit, &budget{most: 1 << 30}) }

// read takes all that a follower can get without waiting.
func read(s *spool, f *follower) (data []byte, gaps int64, end bool) {
	for {
		o, gap, more, e := s.next(f)
		switch {
		case o != nil:
			data = append(data, o.GetData()...)
			s.taken(f, o.GetOffset()+int64(len(o.GetData())))
		case gap > 0:
			gaps += gap
			s.taken(f, f.offset+gap)
		case e:
			return data, gaps, true
		case more != nil:
			return data, gaps, false
		}
	}
}

func TestSpoolKeepsOrderAndOffsets(t *testing.T) {
	s := testSpool(1 << 20)
	s.write(out, []byte("one "))
	s.write(errOut, []byte{0, 0xff})
	s.write(out, []byte("two"))
	s.close()
	data, gaps, end := read(s, s.join(0, false))
	if !bytes.Equal(data, []byte("one \x00\xfftwo")) || gaps != 0 || !end {
		t.Fatalf("got %q, gaps %d, end %v", data, gaps, end)
	}
	if data, _, _ := read(s, s.join(5, false)); !bytes.Equal(data, []byte("\xfftwo")) {
		t.Fatalf("from 5: %q", data)
	}
	o, _, _, _ := s.next(&follower{offset: 6})
	if o.GetStream() != out || o.GetStreamOffset() != 4 {
		t.Fatalf("stream %v at %d", o.GetStream(), o.GetStreamOffset())
	}
}

func TestSpoolCutsWhenNobodyIsAttached(t *testing.T) {
	const limit = 10_000
	s := testSpool(limit)
	s.write(out, bytes.Repeat([]byte("a"), 50_000))
	s.close()
	data, gaps, end := read(s, s.join(0, false))
	if len(data)+int(gaps) != 50_000 || len(data) == 0 || len(data) > limit || !end || !s.truncated {
		t.Fatalf("%d bytes and a gap of %d", len(data), gaps)
	}
	if s.streams[out] != 50_000 {
		t.Fatalf("counted %d", s.streams[out])
	}
}

// TestSpoolSlidesForTheAttached sends much more than the limit to a reader that
// is attached: all of it arrives, and the memory stays bounded.
func TestSpoolSlidesForTheAttached(t *testing.T) {
	const limit, total = 64 << 10, 4 << 20
	s := testSpool(limit)
	f := s.join(0, true)
	go func() {
		chunk := bytes.Repeat([]byte("0123456789abcdef"), 512)
		for range total / len(chunk) {
			s.write(out, chunk)
		}
		s.close()
	}()
	got := 0
	for {
		o, gap, more, end := s.next(f)
		if gap > 0 {
			t.Fatalf("a gap of %d at %d", gap, f.offset)
		}
		if o != nil {
			got += len(o.GetData())
			s.taken(f, o.GetOffset()+int64(len(o.GetData())))
		}
		s.mu.Lock()
		size := s.size
		s.mu.Unlock()
		if size > limit {
			t.Fatalf("%d bytes are kept", size)
		}
		if end {
			break
		}
		if more != nil {
			select {
			case <-more:
			case <-time.After(10 * time.Second):
				t.Fatal("the writer hangs")
			}
		}
	}
	if got != total {
		t.Fatalf("%d bytes arrived", got)
	}
}

// TestSpoolLetsTheWriterGo detaches a reader that the writer waits for.
func TestSpoolLetsTheWriterGo(t *testing.T) {
	s := testSpool(1000)
	f := s.join(0, true)
	done := make(chan struct{})
	go func() {
		s.write(out, make([]byte, 5000))
		close(done)
	}()
	s.leave(f)
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the writer still waits")
	}
}

func TestSpoolSharesItsBudget(t *testing.T) {
	b := &budget{most: 10_000}
	one, two := newSpool(1<<20, b), newSpool(1<<20, b)
	one.write(out, make([]byte, 9000))
	two.write(out, make([]byte, 9000))
	if !two.truncated || b.used.Load() > b.most {
		t.Fatalf("%d of %d bytes are used", b.used.Load(), b.most)
	}
	one.free()
	two.free()
	if b.used.Load() != 0 {
		t.Fatalf("%d bytes are not given back", b.used.Load())
	}
}

// TestSpoolCountsTinyWrites: many small records cost memory too.
func TestSpoolCountsTinyWrites(t *testing.T) {
	s := testSpool(20_000)
	for range 10_000 {
		s.write(out, []byte("a"))
		s.write(errOut, []byte("b"))
	}
	if n := len(s.records); n > 20_000/recordOverhead {
		t.Fatalf("%d records", n)
	}
}
