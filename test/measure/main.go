// Command measure measures the platform side by side with Docker and with bare
// runsc in one run, and prints a table; it writes results.json and chart.svg to
// bench-results. It needs root, dockerd, and what make build builds.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// figure is one measurement: its median and tail, or a single number.
type figure struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	N     int     `json:"n"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99,omitempty"`
	Goal  string  `json:"goal,omitempty"`
	Group string  `json:"group,omitempty"` // drawn together
}

// bench is one run.
type bench struct {
	ctx     context.Context
	dir     string // scratch
	figures []figure
	undo    []func()
	// noopURLs are the database and queue that two measurements share.
	noopURLs [2]string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("run it as root: it makes VMs and containers")
	}
	dir, err := os.MkdirTemp("/tmp", "aebench")
	if err != nil {
		return err
	}
	b := &bench{ctx: ctx, dir: dir}
	defer b.close()
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"sizes", b.sizes}, {"starting aetherium up", b.startUp}, {"create and exec, beside docker and bare runsc", b.createAndExec},
		{"queue overhead", b.queueOverhead}, {"tasks a second", b.throughput}, {"100 idle VMs", b.idleVMs},
	} {
		fmt.Println("measuring:", part.name)
		if err := part.do(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return b.report("bench-results")
}

func (b *bench) close() {
	for _, undo := range slices.Backward(b.undo) {
		undo()
	}
	_ = os.RemoveAll(b.dir)
}

func (b *bench) add(f figure) { b.figures = append(b.figures, f) }

// series adds the median and tail of many measurements.
func (b *bench) series(name, group, goal string, values []time.Duration) {
	slices.Sort(values)
	ms := func(q float64) float64 {
		i := min(int(q*float64(len(values))), len(values)-1)
		return float64(values[i].Microseconds()) / 1000
	}
	b.add(figure{Name: name, Unit: "ms", N: len(values), P50: ms(0.5), P99: ms(0.99), Goal: goal, Group: group})
}

func (b *bench) sizes() error {
	for _, path := range []string{"services/core/agent/agentbin/dist/aether-agent-linux-amd64", "bin/aetherium", "bin/runsc"} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		goal := ""
		if filepath.Base(filepath.Dir(path)) == "dist" {
			goal = "at most 10 MB"
		}
		b.add(figure{Name: "size of " + filepath.Base(path), Unit: "MB", N: 1, P50: float64(info.Size()) / 1e6, Goal: goal})
	}
	return nil
}

func (b *bench) report(dir string) error {
	fmt.Printf("\n%-58s %10s %10s  %-5s %4s  %s\n", "", "p50", "p99", "", "n", "goal")
	for _, f := range b.figures {
		tail := ""
		if f.P99 != 0 {
			tail = fmt.Sprintf("%.2f", f.P99)
		}
		fmt.Printf("%-58s %10.2f %10s  %-5s %4d  %s\n", f.Name, f.P50, tail, f.Unit, f.N, f.Goal)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	out, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), out, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "chart.svg"), chart(b.figures), 0o644); err != nil {
		return err
	}
	fmt.Printf("\n%s and %s have the same.\n", filepath.Join(dir, "results.json"), filepath.Join(dir, "chart.svg"))
	return nil
}
