package agent

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// Stats implements the AgentService.
func (a *Agent) Stats(context.Context, *connect.Request[agentapi.StatsRequest]) (*connect.Response[agentapi.StatsResponse], error) {
	mem := memory()
	st := &agentapi.StatsResponse{
		Uptime:           durationpb.New(time.Since(a.started)),
		CpuTime:          durationpb.New(cpuTime()),
		MemoryTotalBytes: mem.total,
		MemoryUsedBytes:  mem.total - min(mem.available, mem.total),
		Processes:        uint32(len(allProcesses())),
		ExecsRunning:     uint32(len(a.running())),
		Clock:            timestamppb.Now(),
	}
	var disk unix.Statfs_t
	if unix.Statfs("/", &disk) == nil {
		st.DiskTotalBytes = disk.Blocks * uint64(disk.Bsize)
		st.DiskUsedBytes = (disk.Blocks - disk.Bfree) * uint64(disk.Bsize)
	}
	return connect.NewResponse(st), nil
}

// memoryInfo is /proc/meminfo in bytes: proc_meminfo(5).
type memoryInfo struct{ total, available uint64 }

func memory() memoryInfo {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return memoryInfo{}
	}
	values := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			values[strings.TrimSuffix(f[0], ":")] = n << 10
		}
	}
	m := memoryInfo{total: values["MemTotal"], available: values["MemAvailable"]}
	if m.available == 0 {
		m.available = values["MemFree"] + values["Cached"] + values["Buffers"]
	}
	return m
}

// cpuTime is what all processors spent on user and system work: proc_stat(5).
func cpuTime() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	var ticks int64
	for i, f := range strings.Fields(string(line)) {
		if i == 1 || i == 2 || i == 3 { // user, nice, system
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks += n
		}
	}
	const ticksPerSecond = 100 // USER_HZ on every Linux architecture that Go has
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// spoolBudget is the memory for the output of all execs together.
func spoolBudget() int64 {
	const most, least = 128 << 20, 16 << 20
	return max(least, min(most, int64(memory().total/8)))
}

// processInfo is a line of /proc/PID/stat: proc_pid_stat(5).
type processInfo struct {
	pid, parent, session int
	residentBytes        int64
}

func allProcesses() []processInfo {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []processInfo
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			list = append(list, p)
		}
	}
	return list
}

func readProcess(pid int) (processInfo, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processInfo{}, false
	}
	// The name is in parentheses and may hold anything, parentheses too.
	i := bytes.LastIndexByte(text, ')')
	if i < 0 {
		return processInfo{}, false
	}
	f := strings.Fields(string(text[i+1:])) // from the third field on
	const parent, session, resident = 4 - 3, 6 - 3, 24 - 3
	if len(f) <= resident {
		return processInfo{}, false
	}
	n := func(i int) int { v, _ := strconv.Atoi(f[i]); return v }
	return processInfo{pid: pid, parent: n(parent), session: n(session), residentBytes: int64(n(resident)) * int64(os.Getpagesize())}, true
}

// killSession signals every process of a session: those that left the group of
// the command which began it.
func killSession(session int, sig syscall.Signal) {
	for _, p := range allProcesses() {
		if p.session == session && p.pid != os.Getpid() {
			_ = syscall.Kill(p.pid, sig)
		}
	}
}

// SetClock implements the AgentService.
func (a *Agent) SetClock(_ context.Context, r *connect.Request[agentapi.SetClockRequest]) (*connect.Response[agentapi.SetClockResponse], error) {
	tv := unix.NsecToTimeval(r.Msg.GetNow().AsTime().UnixNano())
	return connect.NewResponse(&agentapi.SetClockResponse{Set: unix.Settimeofday(&tv) == nil}), nil
}

// Shutdown implements the AgentService.
func (a *Agent) Shutdown(_ context.Context, r *connect.Request[agentapi.ShutdownRequest]) (*connect.Response[agentapi.ShutdownResponse], error) {
	a.endAll(r.Msg.GetGrace().AsDuration())
	unix.Sync()
	if r.Msg.GetPowerOff() && os.Getpid() == 1 {
		time.AfterFunc(100*time.Millisecond, func() { _ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }) // after the answer
	}
	return connect.NewResponse(&agentapi.ShutdownResponse{}), nil
}

// endAll asks every exec to end, and makes those that have not after grace.
func (a *Agent) endAll(grace time.Duration) {
	running := a.running()
	const why = "the machine shuts down"
	for _, p := range running {
		p.mu.Lock()
		if p.cause == agentapi.EndReason_END_REASON_UNSPECIFIED {
			p.cause, p.why = agentapi.EndReason_END_REASON_SHUTDOWN, why
		}
		pid := p.pid
		p.mu.Unlock()
		_ = a.reaper.kill(pid, true, syscall.SIGTERM)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	out := false
	for _, p := range running {
		if !out {
			select {
			case <-p.ended:
				continue
			case <-timer.C:
				out = true
			}
		}
		p.end(a.reaper, agentapi.EndReason_END_REASON_SHUTDOWN, why)
	}
	for _, p := range running {
		<-p.ended
	}
}
