package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// server is aetherium up.
type server struct {
	url  string
	cmd  *exec.Cmd
	args []string
}

func (b *bench) start() (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	s := &server{url: "http://" + address}
	dir := []string{"--data-dir", filepath.Join(b.dir, "up"), "--bridge", "aebench0", "--subnet", "10.215.0.0/22", "--cpu-overcommit", "64"}
	s.args = append([]string{"up", "--listen", address, "--log-level", "warn"}, dir...)
	s.cmd = exec.Command("bin/aetherium", s.args...)
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, s.ready()
}

func (s *server) ready() error {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		var list struct{ Items []types.Worker }
		if s.call(http.MethodGet, "/workers", nil, &list) == nil && len(list.Items) > 0 && len(list.Items[0].Runtimes) > 0 && list.Items[0].Runtimes[0].Proven {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("the platform is not ready after 30 s")
}

func (s *server) stop(b *bench) {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
	if out, err := exec.Command("bin/aetherium", "cleanup", "--data-dir", filepath.Join(b.dir, "up"), "--bridge", "aebench0", "--subnet", "10.215.0.0/22").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cleanup: %v\n%s", err, out)
	}
}

func (s *server) call(method, path string, body, answer any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, s.url+"/api/v1"+path, in)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, out)
	}
	return json.Unmarshal(out, answer)
}

// done calls what makes a task and waits for its good end.
func (s *server) done(method, path string, body any) (types.Task, error) {
	var t types.Task
	if err := s.call(method, path+"?wait=2m", body, &t); err != nil {
		return t, err
	}
	if t.State != types.TaskSucceeded {
		return t, fmt.Errorf("%s %s ended %s: %s", method, path, t.State, t.Reason)
	}
	return t, nil
}

// startUp measures how long aetherium up takes to be ready, and its idle memory.
func (b *bench) startUp() error {
	var times []time.Duration
	var memory float64
	for range 5 {
		began := time.Now()
		s, err := b.start()
		if err != nil {
			return err
		}
		times = append(times, time.Since(began))
		time.Sleep(2 * time.Second) // what the start needed may be let go
		memory = resident(s.cmd.Process.Pid)
		s.stop(b)
	}
	b.series("aetherium up ready, runtime proven", "", "at most 1500 ms", times)
	b.add(figure{Name: "aetherium up idle, resident", Unit: "MB", N: 1, P50: memory, Goal: "at most 100 MB"})
	return nil
}

// resident is a process's memory in MB: proc_pid_status(5), VmRSS.
func resident(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			return kb / 1000
		}
	}
	return 0
}

// available is the host's free memory in MB.
func available() float64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			return kb / 1000
		}
	}
	return 0
}

// idleVMs creates 100 VMs and says what each takes of the host's memory.
func (b *bench) idleVMs() error {
	const n = 100
	s, err := b.start()
	if err != nil {
		return err
	}
	defer s.stop(b)
	before := available()
	began := time.Now()
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := s.done(http.MethodPost, "/vms", types.VMSpec{Name: fmt.Sprintf("idle-%d", i), MemoryMiB: 128, DiskMiB: 512})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			return err
		}
	}
	took := time.Since(began)
	time.Sleep(3 * time.Second) // until they are idle
	b.add(figure{Name: "100 VMs created at once, all running after", Unit: "s", N: n, P50: took.Seconds()})
	b.add(figure{Name: "host memory for each of 100 idle VMs", Unit: "MB", N: n, P50: (before - available()) / n})
	return nil
}
