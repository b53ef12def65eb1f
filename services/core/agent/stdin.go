package agent

import (
	"os"
	"sync"

	"connectrpc.com/connect"
)

// stdin feeds a process by offset, so that a host which lost an answer can send
// again what it is not sure of.
type stdin struct {
	mu     sync.Mutex // one writer at a time
	file   *os.File   // nil once it is closed
	pipe   *os.File   // the same, for good; nil for a terminal
	tty    bool       // closing it is a control character
	counts sync.Mutex
	offset int64
}

func (s *stdin) accepted() int64 {
	s.counts.Lock()
	defer s.counts.Unlock()
	return s.offset
}

// write appends data that begins at an offset, and answers how much is accepted.
// It waits while the process does not read.
func (s *stdin) write(offset int64, data []byte, eof bool) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(offset, data, eof)
}

// begin writes what a process reads first, in the background: whoever calls
// write from now on comes after it.
func (s *stdin) begin(data []byte, eof bool) {
	s.mu.Lock()
	go func() {
		defer s.mu.Unlock()
		_, _ = s.append(0, data, eof) // a process that does not read is no fault
	}()
}

// append is write with the lock held.
func (s *stdin) append(offset int64, data []byte, eof bool) (int64, error) {
	have := s.accepted()
	if offset > have {
		return have, fail(connect.CodeOutOfRange, "standard input has %d bytes so far; %d cannot come next", have, offset)
	}
	data = data[min(have-offset, int64(len(data))):]
	if s.file == nil {
		if len(data) > 0 {
			return have, fail(connect.CodeFailedPrecondition, "standard input is closed")
		}
		return have, nil
	}
	n, err := 0, error(nil)
	if len(data) > 0 { // an empty write to a terminal can wait for ever
		n, err = s.file.Write(data)
	}
	s.counts.Lock()
	s.offset += int64(n)
	have = s.offset
	s.counts.Unlock()
	if err != nil {
		s.shut()
		return have, fail(connect.CodeFailedPrecondition, "the process does not read its standard input any more: %v", err)
	}
	if eof {
		s.shut()
	}
	return have, nil
}

// shut closes the process's end of file; the lock is held.
func (s *stdin) shut() {
	if s.file == nil {
		return
	}
	if s.tty {
		const endOfTransmission = 4 // what a terminal makes an end of file of: termios(3), VEOF
		_, _ = s.file.Write([]byte{endOfTransmission})
	} else {
		_ = s.file.Close()
	}
	s.file = nil
}

// close ends it when the process is gone, and lets a writer go that waits. A
// terminal is closed by whoever reads it.
func (s *stdin) close() {
	if s != nil && s.pipe != nil {
		_ = s.pipe.Close()
	}
}
