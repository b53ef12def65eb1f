package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/agent/agentbin"
	"github.com/aetherium/aetherium/services/core/queue"
	"github.com/aetherium/aetherium/services/core/runtime/gvisor"
	"github.com/aetherium/aetherium/services/core/store"
)

// finding is what doctor says of one thing.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"` // ok, warn or FAIL
	Reason  string `json:"reason"`
	Remedy  string `json:"remedy,omitempty"`
}

const (
	verdictOK   = "ok"
	verdictWarn = "warn"
	verdictFail = "FAIL"
)

func (p *program) doctorCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check whether this machine can run VMs, and what is left of old ones", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.doctor(cmd.Context(), output) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	p.settings.workerFlags(cmd)
	p.settings.sharedFlags(cmd)
	return cmd
}

func (p *program) doctor(ctx context.Context, output string) error {
	if output != "table" && output != "json" {
		return types.InvalidField("output", output, "is no form of output", "use table or json")
	}
	var list []finding
	for _, check := range []func(context.Context) []finding{p.checkHost, p.checkRuntime, p.checkServices, p.checkLeftovers} {
		list = append(list, check(ctx)...)
	}
	if err := p.printFindings(list, output); err != nil {
		return err
	}
	for _, f := range list {
		if f.Verdict == verdictFail {
			return errFindings
		}
	}
	return nil
}

func (p *program) printFindings(list []finding, output string) error {
	if output == "json" {
		e := json.NewEncoder(p.out)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	for _, f := range list {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", f.Verdict, f.Check, f.Reason)
		if f.Remedy != "" {
			_, _ = fmt.Fprintf(w, "\t\t→ %s\n", f.Remedy)
		}
	}
	return w.Flush()
}

func judge(check string, ok bool, good, bad, remedy string) finding {
	if ok {
		return finding{Check: check, Verdict: verdictOK, Reason: good}
	}
	return finding{Check: check, Verdict: verdictFail, Reason: bad, Remedy: remedy}
}

func (p *program) checkHost(context.Context) []finding {
	list := []finding{judge("root", os.Geteuid() == 0, "running as root", "not root: no VM can be made", "run it with sudo")}
	var kernel unix.Utsname
	if unix.Uname(&kernel) == nil {
		list = append(list, finding{Check: "kernel", Verdict: verdictOK, Reason: unix.ByteSliceToString(kernel.Release[:])})
	}
	var fs unix.Statfs_t
	cgroups := "version 1, a hierarchy for each controller"
	if unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		cgroups = "version 2"
	}
	list = append(list, judge("cgroups", fs.Type != 0, cgroups, "none at /sys/fs/cgroup", "mount them, or run on a host that has them"))
	for _, name := range []string{"overlay", "ext4"} {
		list = append(list, checkFilesystem(name, unix.ByteSliceToString(kernel.Release[:])))
	}
	for _, tool := range []struct{ name, pkg string }{{"nft", "nftables"}, {"mkfs.ext4", "e2fsprogs"}, {"e2fsck", "e2fsprogs"}} {
		path, err := exec.LookPath(tool.name)
		list = append(list, judge(tool.name, err == nil, path, "is not installed", "apt-get install "+tool.pkg))
	}
	list = append(list, p.checkDisk())
	kvm := finding{Check: "kvm", Verdict: verdictOK, Reason: "/dev/kvm is not there; the gVisor runtime needs none"}
	if _, err := os.Stat("/dev/kvm"); err == nil {
		kvm.Reason = "/dev/kvm is there; whether a guest runs on it is not proven; the gVisor runtime needs none"
	}
	return append(list, kvm)
}

// checkFilesystem looks whether the kernel knows a file system, or has a module
// that it loads at the first mount.
func checkFilesystem(name, release string) finding {
	known, _ := os.ReadFile("/proc/filesystems")
	if bytes.Contains(known, []byte("\t"+name+"\n")) {
		return finding{Check: name, Verdict: verdictOK, Reason: "the kernel has it"}
	}
	modules, _ := os.ReadFile(filepath.Join("/lib/modules", release, "modules.dep"))
	return judge(name, bytes.Contains(modules, []byte("/"+name+".ko")), "the kernel loads it when it is mounted", "the kernel does not have it",
		"install the kernel's modules, or run on a host that has them")
}

func (p *program) checkDisk() finding {
	const least = 2 << 30
	dir := p.settings.DataDir
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return finding{Check: "disk", Verdict: verdictFail, Reason: err.Error(), Remedy: "choose another --data-dir"}
	}
	free := fs.Bavail * uint64(fs.Bsize)
	return judge("disk", free >= least, fmt.Sprintf("%.1f GiB free for %s", float64(free)/(1<<30), p.settings.DataDir),
		fmt.Sprintf("only %.1f GiB free for %s", float64(free)/(1<<30), p.settings.DataDir), "free some, or choose another --data-dir")
}

func (p *program) checkRuntime(ctx context.Context) []finding {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "aetherium-doctor-")
	if err != nil {
		return []finding{{Check: "gvisor", Verdict: verdictFail, Reason: err.Error()}}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	agent, err := agentbin.Extract(dir)
	if err != nil {
		return []finding{{Check: "agent", Verdict: verdictFail, Reason: err.Error(), Remedy: "make build"}}
	}
	rt, err := gvisor.New(gvisor.Config{DataDir: dir, RunscPath: p.settings.runsc(), AgentPath: agent, Log: p.log})
	if err != nil {
		return []finding{{Check: "gvisor", Verdict: verdictFail, Reason: err.Error()}}
	}
	status := rt.Probe(ctx)
	return []finding{judge("gvisor", status.Proven, "proven: a guest ran to its end ("+status.Version+")", status.Reason, "mend what the reason says, then run aetherium doctor again")}
}

func (p *program) checkServices(ctx context.Context) []finding {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var list []finding
	if url := p.settings.DatabaseURL; url != "" {
		s, err := store.Open(ctx, url)
		reason := "does not answer"
		if err != nil {
			reason = err.Error()
		} else {
			_ = s.Close()
		}
		list = append(list, judge("database", err == nil, "answers", reason, "check --database-url and that the server runs"))
	}
	if url := p.settings.RedisURL; url != "" {
		q, err := queue.Open(ctx, url)
		if err == nil {
			err = q.Ping(ctx)
			_ = q.Close()
		}
		reason := "does not answer"
		if err != nil {
			reason = err.Error()
		}
		list = append(list, judge("redis", err == nil, "answers", reason, "check --redis-url and that the server runs"))
	}
	return list
}
