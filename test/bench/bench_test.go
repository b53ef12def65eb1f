//go:build bench

package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/test/services"
)

var (
	rounds  = flag.Int("rounds", 50, "how often each slow thing is done; fast ones four times as often")
	crowd   = flag.Int("crowd", 100, "idle VMs at once")
	results = flag.String("results", "../../bench-results", "folder for results.json and chart.svg")
)

func TestBench(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: namespaces, mounts, cgroups and a Docker Engine of its own")
	}
	r := newReport()
	step := func(name string, do func(*testing.T, *report)) {
		began := time.Now()
		if t.Run(name, func(t *testing.T) { do(t, r) }) {
			fmt.Printf("%s: measured in %s\n", name, time.Since(began).Round(time.Second))
		}
	}
	step("start", starts)
	step("create", creates)
	step("exec", execs)
	step("queue", queues)
	step("throughput", throughputs)
	step("crowd", crowds)
	if t.Failed() {
		return
	}
	r.print(os.Stdout)
	r.write(t, *results)
	for _, g := range r.Goals {
		if !g.Met {
			t.Errorf("%s: %.2f %s, promised %s %.2f", g.What, g.Value, g.Unit, g.sign(), g.Limit)
		}
	}
}

// starts measures how soon aetherium up is ready in a new folder, and what it
// holds once idle.
func starts(t *testing.T, r *report) {
	ready, proven := r.series("aetherium up", "ready to answer"), r.series("aetherium up", "runtime proven")
	for i := range *rounds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir, flags := place(t)
			listen := freePort(t)
			began := time.Now()
			server := launch(t, filepath.Join(dir, "log"), program(t, "aetherium"), append([]string{"up", "--listen", listen}, flags...)...)
			p := connectOnly(t, server, listen)
			server.until(t, "it is ready", time.Millisecond, func() bool { return p.Ready(t.Context()) == nil })
			ready.add(time.Since(began))
			server.until(t, "it has proven its runtime", 5*time.Millisecond, p.proven)
			proven.add(time.Since(began))
			if i == *rounds-1 {
				idle(t, r, server.cmd.Process.Pid)
			}
		})
	}
	ready.sum()
	proven.sum()
	r.atMost("aetherium up ready, median", ready.P50, 1500, "ms")
	agent, err := os.Stat("../../services/core/agent/agentbin/dist/aether-agent-linux-amd64")
	must(t, err)
	r.atMost("guest agent's size", float64(agent.Size())/1e6, 10, "MB")
}

// idle waits until the server's memory has settled.
func idle(t *testing.T, r *report, pid int) {
	t.Helper()
	began, last := time.Now(), 0.0
	until(t, "its memory settles", time.Second, func() bool {
		now := resident(t, pid)
		settled := now <= last && time.Since(began) > 10*time.Second
		last = now
		return settled
	})
	r.atMost("aetherium up resident when idle", last, 100, "MiB")
}

// creates measures from the wish for a VM to its agent's answer.
func creates(t *testing.T, r *report) {
	root := filepath.Join(folder(t), "root")
	rootfs(t, root)
	d := newDocker(t, root)
	archive := filepath.Join(folder(t), "image.tar")
	d.save(t, archive)
	b := newBareRunsc(t, root)
	p := up(t)
	spec := types.VMSpec{Image: "docker-archive:" + archive}
	ours, cli, host := r.series("create a VM", "HTTP, same image"), r.series("create a VM", "aether-cli, same image"), r.series("create a VM", "HTTP, image host")
	dockerCLI, dockerAPI, bare := r.series("create a VM", "docker run -d"), r.series("create a VM", "docker's API"), r.series("create a VM", "bare runsc create + start")
	aetherCLI := program(t, "aether-cli")
	const warm = 2
	for i := range warm + *rounds {
		id := fmt.Sprintf("c%d", i)
		each := []struct {
			s        *series
			do, undo func()
		}{
			{ours, func() { p.create(t, named(spec, id)) }, func() { p.delete(t, id) }},
			{dockerCLI, func() { d.cli(t, "run", "-d", "--name", "x"+id, d.image) }, func() { d.cli(t, "rm", "-f", "x"+id) }},
			{bare, func() { b.create(t, id) }, func() { b.delete(t, id) }},
			{dockerAPI, func() { d.runByAPI(t, "y"+id) }, func() { d.cli(t, "rm", "-f", "y"+id) }},
			{cli, func() { run(t, aetherCLI, "--url", p.url, "vm", "create", "a"+id, "--image", spec.Image) }, func() { p.delete(t, "a"+id) }},
			{host, func() { p.create(t, types.VMSpec{Name: "h" + id}) }, func() { p.delete(t, "h"+id) }},
		}
		for _, e := range each {
			if i < warm {
				e.do()
			} else {
				e.s.measure(e.do)
			}
			e.undo()
		}
	}
	for _, s := range []*series{ours, cli, host, dockerCLI, dockerAPI, bare} {
		s.sum()
	}
	r.atMost("create by HTTP against docker run -d, medians", ours.P50/dockerCLI.P50, 1, "×")
	r.atMost("create by HTTP against bare runsc, medians", ours.P50/bare.P50, 4.0/3, "×")
}

func named(s types.VMSpec, name string) types.VMSpec {
	s.Name = name
	return s
}

// execs measures /bin/true, from the wish to the answer.
func execs(t *testing.T, r *report) {
	root := filepath.Join(folder(t), "root")
	rootfs(t, root)
	d := newDocker(t, root)
	archive := filepath.Join(folder(t), "image.tar")
	d.save(t, archive)
	p := up(t)
	p.create(t, types.VMSpec{Name: "vm", Image: "docker-archive:" + archive})
	d.cli(t, "run", "-d", "--name", "box", d.image)
	ours, cli := r.series("exec /bin/true", "HTTP with wait"), r.series("exec /bin/true", "aether-cli exec")
	dockerCLI, dockerAPI := r.series("exec /bin/true", "docker exec"), r.series("exec /bin/true", "docker's API")
	aetherCLI := program(t, "aether-cli")
	for i := range 4 * *rounds {
		if i == 0 {
			p.exec(t, "vm")
			d.execByAPI(t, "box")
		}
		ours.measure(func() { p.exec(t, "vm") })
		dockerCLI.measure(func() { d.cli(t, "exec", "box", "/bin/true") })
		cli.measure(func() { run(t, aetherCLI, "--url", p.url, "exec", "vm", "--", "/bin/true") })
		dockerAPI.measure(func() { d.execByAPI(t, "box") })
	}
	for _, s := range []*series{ours, cli, dockerCLI, dockerAPI} {
		s.sum()
	}
	r.atMost("exec by HTTP against docker exec, medians", ours.P50/dockerCLI.P50, 0.5, "×")
}

// queues measures from a task's record to its handler, which is more than from
// the 202 that follows the record: on the embedded queue and on Redis.
func queues(t *testing.T, r *report) {
	embedded := up(t)
	redis := cluster(t, services.Postgres(t), services.Redis(t))
	sides := []struct {
		name string
		p    *platform
		s    *series
	}{
		{"SQLite and in-process queue", embedded, r.series("accepted → handler begins", "SQLite, in-process queue")},
		{"PostgreSQL and Redis", redis, r.series("accepted → handler begins", "PostgreSQL, Redis")},
	}
	for _, side := range sides {
		side.p.create(t, types.VMSpec{Name: "vm"})
	}
	for range 6 * *rounds {
		for _, side := range sides {
			task := side.p.exec(t, "vm")
			side.s.add(task.StartedAt.Sub(task.CreatedAt))
		}
	}
	for _, side := range sides {
		side.s.sum()
		r.atMost("queue overhead, "+side.name+", p50", side.s.P50, 10, "ms")
		r.atMost("queue overhead, "+side.name+", p99", side.s.P99, 50, "ms")
	}
}

// throughputs puts no-op tasks through PostgreSQL and Redis, and through Asynq
// alone, by turns.
func throughputs(t *testing.T, r *report) {
	redis := services.Redis(t)
	rig := newRig(t, services.Postgres(t), redis)
	const batch = 2000
	rig.throughput(t, batch/4) // plans and connections are warm then
	var ours, raw []float64
	for range max(*rounds/10, 1) {
		ours = append(ours, rig.throughput(t, batch))
		raw = append(raw, rawAsynq(t, redis, batch))
	}
	through, alone := median(ours), median(raw)
	r.atLeast("no-op tasks through PostgreSQL and Redis", through, 1000, "tasks/s")
	r.figure("raw Asynq, which keeps no record", alone, "tasks/s")
	r.figure("ours to raw Asynq", through/alone, "×")
}

func median(v []float64) float64 {
	s := series{Samples: v}
	s.sum()
	return s.P50
}

// crowds measures what idle VMs hold of the host.
func crowds(t *testing.T, r *report) {
	p := up(t, "--cpu-overcommit", "128")
	before, held := available(t), sandboxMemory()
	began := time.Now()
	var all sync.WaitGroup
	turn := make(chan struct{}, 4)
	for i := range *crowd {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			task, err := p.CreateVM(t.Context(), types.VMSpec{Name: fmt.Sprintf("idle-%d", i), MemoryMiB: 64, DiskMiB: 64}, wait)
			if err != nil || task.State != types.TaskSucceeded {
				t.Errorf("VM %d: %v %s", i, err, task.Reason)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	took := time.Since(began)
	n := float64(*crowd)
	r.figure("idle VMs at once", n, "VMs")
	r.figure("made at a rate of", n/took.Seconds(), "VMs/s")
	r.figure("host memory of each, by its processes' share (Pss)", (sandboxMemory()-held)/n, "MiB")
	r.figure("host memory of each, by what is less available", (before-available(t))/n, "MiB")
	answer := time.Now()
	p.exec(t, "idle-0")
	r.figure("exec among them", float64(time.Since(answer).Microseconds())/1000, "ms")
	r.figure("aetherium up resident among them", resident(t, p.server.cmd.Process.Pid), "MiB")
	list, err := exec.Command(program(t, "aether-cli"), "--url", p.url, "vm", "list").Output()
	must(t, err)
	if len(list) == 0 {
		t.Error("the list of VMs is empty")
	}
}
