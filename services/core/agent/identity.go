package agent

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is who a process runs as.
type account struct {
	name     string
	home     string
	uid, gid uint32
	groups   []uint32
}

// lookupUser reads "name", "uid", "name:group" or "uid:gid" by the guest's own
// /etc/passwd and /etc/group; empty is root. A number needs no entry there.
func lookupUser(spec string) (account, error) {
	who, group, hasGroup := strings.Cut(spec, ":")
	if who == "" {
		who = "0"
	}
	a, err := lookupAccount(who)
	if err != nil || !hasGroup {
		return a, err
	}
	gid, err := lookupGroup(group)
	a.gid, a.groups = gid, []uint32{gid}
	return a, err
}

func lookupAccount(who string) (account, error) {
	u, err := user.Lookup(who)
	if err != nil {
		u, err = user.LookupId(who)
	}
	if err != nil {
		uid, numErr := strconv.ParseUint(who, 10, 31)
		if numErr != nil {
			return account{}, fmt.Errorf("is not in the guest's /etc/passwd")
		}
		home := "/"
		if uid == 0 {
			home = "/root"
		}
		return account{name: who, home: home, uid: uint32(uid), gid: uint32(uid)}, nil
	}
	a := account{name: u.Username, home: u.HomeDir, uid: number(u.Uid), gid: number(u.Gid)}
	ids, err := u.GroupIds()
	if err != nil {
		ids = []string{u.Gid} // no readable /etc/group: the primary one then
	}
	for _, id := range ids {
		a.groups = append(a.groups, number(id))
	}
	return a, nil
}

func lookupGroup(group string) (uint32, error) {
	if g, err := user.LookupGroup(group); err == nil {
		return number(g.Gid), nil
	}
	gid, err := strconv.ParseUint(group, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("group %q is not in the guest's /etc/group", group)
	}
	return uint32(gid), nil
}

func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

// credential is nil where the agent is that user already: then it needs no right
// to change.
func (a account) credential() *syscall.Credential {
	if int(a.uid) == os.Geteuid() && int(a.gid) == os.Getegid() {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
}

// variables are an environment.
type variables map[string]string

func (v variables) list() []string {
	list := make([]string, 0, len(v))
	for k, value := range v {
		list = append(list, k+"="+value)
	}
	slices.Sort(list)
	return list
}

// environment is what a process finds: what every login has, then the VM's, then
// its own.
func environment(vm, own map[string]string, who account, tty bool) variables {
	env := variables{"PATH": basePath, "HOME": who.home, "USER": who.name, "LOGNAME": who.name}
	if tty {
		env["TERM"] = "xterm-256color"
	}
	for _, from := range []map[string]string{vm, own} {
		for k, v := range from {
			env[k] = v
		}
	}
	return env
}

func workingDir(own, image string, who account) string {
	for _, dir := range []string{own, image} {
		if dir != "" {
			return dir
		}
	}
	if info, err := os.Stat(who.home); err == nil && info.IsDir() {
		return who.home
	}
	return "/"
}

func setHostname(name string) {
	// Without the right to (as in tests) the machine keeps the name it has.
	_ = unix.Sethostname([]byte(name))
}
