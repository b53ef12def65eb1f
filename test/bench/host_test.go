//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// memoryField reads a field in kB of a file such as /proc/PID/status, and answers
// it in MiB.
func memoryField(file, field string) (float64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == field+":" {
			kb, err := strconv.ParseFloat(f[1], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, field)
}

func resident(t testing.TB, pid int) float64 {
	t.Helper()
	v, err := memoryField(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	must(t, err)
	return v
}

func available(t testing.TB) float64 {
	t.Helper()
	v, err := memoryField("/proc/meminfo", "MemAvailable")
	must(t, err)
	return v
}

// sandboxMemory is what all the sandboxes of this host hold, in MiB, memory that
// is shared counted once (/proc/PID/smaps_rollup, Pss).
func sandboxMemory() float64 {
	var sum float64
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !bytes.HasPrefix(args, []byte("runsc-")) && !bytes.HasPrefix(args, []byte("exe\x00")) {
			continue
		}
		// A process that ended meanwhile holds nothing.
		v, _ := memoryField(filepath.Join(dir, "smaps_rollup"), "Pss")
		sum += v
	}
	return sum
}
