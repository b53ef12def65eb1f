package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress is a line of a terminal that is written anew while something takes
// its time. A nil one, where there is no terminal, shows nothing.
type progress struct {
	to    *os.File
	began time.Time
	stop  chan struct{}
	done  chan struct{}

	mu    sync.Mutex
	text  func() string
	shown bool
	over  bool
}

// progress shows what text says, if that takes longer than a moment, until it is
// closed. text may answer "" for nothing to show.
func (a *app) progress(text func() string) *progress {
	if _, ok := terminal(a.err); !ok {
		return nil
	}
	p := &progress{to: a.err.(*os.File), began: time.Now(), text: text, stop: make(chan struct{}), done: make(chan struct{})}
	go p.draw()
	return p
}

func (p *progress) draw() {
	defer close(p.done)
	const moment, frame = 400 * time.Millisecond, 100 * time.Millisecond
	t := time.NewTimer(moment)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		case <-t.C:
			t.Reset(frame)
		}
		p.frame(n)
	}
}

func (p *progress) frame(n int) {
	spinner := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.text()
	if p.over || text == "" {
		p.clear()
		return
	}
	line := []rune(fmt.Sprintf("%c %s (%s)", spinner[n%len(spinner)], oneLine(text), time.Since(p.began).Round(time.Second)))
	if width, _, err := term.GetSize(int(p.to.Fd())); err == nil && width > 0 && len(line) >= width {
		line = line[:width-1]
	}
	p.shown = true
	_, _ = fmt.Fprintf(p.to, "\r\033[K%s", string(line))
}

// clear takes the line away; the lock is held.
func (p *progress) clear() {
	if p.shown {
		p.shown = false
		_, _ = fmt.Fprint(p.to, "\r\033[K")
	}
}

// close takes the line away for good.
func (p *progress) close() {
	if p == nil {
		return
	}
	p.end()
	<-p.done
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.over = true
		close(p.stop)
		p.clear()
	}
}

// until is a writer whose first bytes end the line.
func (p *progress) until(w io.Writer) io.Writer {
	if p == nil {
		return w
	}
	return endsProgress{p, w}
}

type endsProgress struct {
	p *progress
	w io.Writer
}

func (e endsProgress) Write(b []byte) (int, error) {
	e.p.end()
	return e.w.Write(b)
}
