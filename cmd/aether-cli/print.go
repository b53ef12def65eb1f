package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/aetherium/aetherium/libs/types"
)

// table is how things of one kind look in a table.
type table[T any] struct {
	head []string
	row  func(T) []any
	id   func(T) string
}

var vmTable = table[types.VM]{
	head: []string{"NAME", "ID", "STATE", "IMAGE", "CPUS", "MEMORY", "IP", "AGE", "REASON"},
	row: func(v types.VM) []any {
		return []any{v.Name, v.ID, v.State, v.Image, v.VCPUs, fmt.Sprintf("%d MiB", v.MemoryMiB), v.IP, age(v.CreatedAt), v.Reason}
	},
	id: func(v types.VM) string { return v.ID },
}

var taskTable = table[types.Task]{
	head: []string{"ID", "TYPE", "STATE", "VM", "ATTEMPT", "AGE", "REASON"},
	row: func(t types.Task) []any {
		reason := t.Reason
		if t.Error != nil {
			reason = sentence(t.Error)
		}
		return []any{t.ID, t.Type, t.State, t.VMID, t.Attempt, age(t.CreatedAt), reason}
	},
	id: func(t types.Task) string { return t.ID },
}

var workerTable = table[types.Worker]{
	head: []string{"ID", "HOST", "STATE", "RUNTIMES", "VMS", "CPUS", "MEMORY", "HEARTBEAT"},
	row: func(w types.Worker) []any {
		return []any{w.ID, w.Hostname, w.State, runtimes(w), w.Reserved.VMs, fmt.Sprintf("%d/%d", w.Reserved.VCPUs, w.Capacity.VCPUs),
			fmt.Sprintf("%d/%d MiB", w.Reserved.MemoryMiB, w.Capacity.MemoryMiB), age(w.HeartbeatAt) + " ago"}
	},
	id: func(w types.Worker) string { return w.ID },
}

var imageTable = table[types.WorkerImage]{
	head: []string{"IMAGE", "DIGEST", "SIZE", "LAYERS", "WORKER", "PULLED"},
	row: func(i types.WorkerImage) []any {
		return []any{i.Ref, i.Digest, fmt.Sprintf("%.1f MiB", float64(i.SizeBytes)/(1<<20)), i.Layers, i.WorkerID, age(i.PulledAt) + " ago"}
	},
	id: func(i types.WorkerImage) string { return i.Digest },
}

func runtimes(w types.Worker) string {
	s := ""
	for _, r := range w.Runtimes {
		if s != "" {
			s += ","
		}
		s += r.Name
		if !r.Proven {
			s += "(not proven)"
		}
	}
	return s
}

func age(t time.Time) string {
	d := max(time.Since(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// printList prints things in the form that --output names.
func printList[T any](a *app, t table[T], items []T) error {
	switch a.output {
	case "id":
		for _, v := range items {
			if _, err := fmt.Fprintln(a.out, t.id(v)); err != nil {
				return err
			}
		}
		return nil
	case "table":
		w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
		line := func(cells []any) {
			for i, c := range cells {
				if i > 0 {
					_, _ = fmt.Fprint(w, "\t")
				}
				_, _ = fmt.Fprint(w, oneLine(fmt.Sprint(c)))
			}
			_, _ = fmt.Fprintln(w)
		}
		head := make([]any, len(t.head))
		for i, h := range t.head {
			head[i] = h
		}
		line(head)
		for _, v := range items {
			line(t.row(v))
		}
		return w.Flush()
	}
	if items == nil {
		items = []T{}
	}
	return a.encode(items)
}

// printSome is printList for what was asked for by name: one thing is no list.
func printSome[T any](a *app, t table[T], items []T, asked int) error {
	if asked == 1 && (a.output == "json" || a.output == "yaml") {
		if len(items) == 0 {
			return nil
		}
		return a.encode(items[0])
	}
	return printList(a, t, items)
}

// printOne prints one thing.
func printOne[T any](a *app, t table[T], v T) error { return printSome(a, t, []T{v}, 1) }

// printEach gets things by name and prints those that are there; the others are
// its error.
func printEach[T any](a *app, t table[T], names []string, get func(string) (T, error)) error {
	var items []T
	var errs []error
	for _, name := range names {
		v, err := get(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		items = append(items, v)
	}
	if len(items) > 0 {
		errs = append(errs, printSome(a, t, items, len(names)))
	}
	return errors.Join(errs...)
}

func (a *app) encode(v any) error {
	var b []byte
	var err error
	if a.output == "yaml" {
		b, err = yaml.Marshal(v)
	} else {
		b, err = json.MarshalIndent(v, "", "  ")
		b = append(b, '\n')
	}
	if err != nil {
		return err
	}
	_, err = a.out.Write(b)
	return err
}

// encodeLine writes JSON in one line.
func (a *app) encodeLine(v any) error {
	return json.NewEncoder(a.out).Encode(v)
}
