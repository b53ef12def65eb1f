package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/aetherium/aetherium/libs/types"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://localhost":                                    "[localhost:6379]  db0 :@ tls=false cluster=false",
		"redis://u:p%40ss@h:1/3":                               "[h:1]  db3 u:p@ss@ tls=false cluster=false",
		"redis://:pw@[::1]:7?db=2":                             "[[::1]:7]  db2 :pw@ tls=false cluster=false",
		"rediss://h":                                           "[h:6379]  db0 :@ tls=true cluster=false",
		"redis-sentinel://u:p@a,b:5/main/4":                    "[a:26379 b:5] main db4 u:p@ tls=false cluster=false",
		"rediss-sentinel://a/main?sentinel_password=x":         "[a:26379] main db0 :@ tls=true cluster=false",
		"redis-cluster://a:1,b:2":                              "[a:1 b:2]  db0 :@ tls=false cluster=true",
		"rediss-cluster://:pw@a:1,b:2?tls_server_name=cluster": "[a:1 b:2]  db0 :pw@ tls=true cluster=true",
	} {
		o, err := parseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := fmt.Sprintf("%v %s db%d %s:%s@ tls=%v cluster=%v", o.Addrs, o.MasterName, o.DB, o.Username, o.Password, o.TLSConfig != nil, o.IsClusterMode)
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", url, got, want)
		}
	}
}

func TestBadURLsAreInvalidAndKeepTheirPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "localhost:6379", "http://secret@h", "redis://", "redis://:secret@", "redis://:secret@a,b", "redis://:secret@h/x",
		"redis://:secret@h/-1", "redis-sentinel://:secret@h", "redis-cluster://:secret@h/1", "redis://:secret@h?what=1",
		"redis://:secret@h?tls_ca=/x", "rediss://:secret@h?tls_ca=/does/not/exist", "redis://:secret%@h",
	} {
		_, err := parseURL(url)
		if types.KindOf(err) != types.KindInvalid {
			t.Errorf("%q: %v", url, err)
		} else if e := types.AsError(err); e.Remedy == "" || strings.Contains(e.Error()+e.Remedy, "secret") {
			t.Errorf("%q: %q, remedy %q", url, e.Error(), e.Remedy)
		}
	}
}

// TestDeployments runs one entry through each kind of deployment for real.
func TestDeployments(t *testing.T) {
	t.Parallel()
	t.Run("password and database", func(t *testing.T) {
		t.Parallel()
		s := startRedis(t, "--requirepass", "se/cret")
		roundTrip(t, "redis://:se%2Fcret@"+s.addr()+"/5")
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		s := startRedis(t, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1")
		s.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
		c := redis.NewClient(&redis.Options{Addr: s.addr()})
		defer c.Close()
		eventually(t, "the cluster is up", func() bool {
			info, err := c.ClusterInfo(t.Context()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok")
		})
		roundTrip(t, "redis-cluster://"+s.addr())
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		master := startRedis(t)
		sentinel := startSentinel(t)
		sentinel.do("SENTINEL", "MONITOR", "main", "127.0.0.1", master.port, 1)
		roundTrip(t, "redis-sentinel://"+sentinel.addr()+"/main")
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		dir, port := certificates(t), freePort(t)
		startRedis(t, "--tls-port", fmt.Sprint(port), "--tls-auth-clients", "no",
			"--tls-cert-file", dir+"/cert.pem", "--tls-key-file", dir+"/key.pem", "--tls-ca-cert-file", dir+"/cert.pem")
		roundTrip(t, fmt.Sprintf("rediss://127.0.0.1:%d?tls_ca=%s", port, dir+"/cert.pem"))
	})
}

func roundTrip(t *testing.T, url string) {
	t.Helper()
	q := open(t, url)
	got := make(chan Entry, 1)
	consume(t, q, "w", 2, func(_ context.Context, e Entry) { got <- e })
	e := Entry{TaskID: "t", Attempt: 1, WorkerID: "w", Priority: types.PriorityCritical}
	enqueue(t, q, e)
	if g := receive(t, got, "the entry"); g != e {
		t.Fatalf("got %+v", g)
	}
	eventually(t, "the entry is done", func() bool { return place(t, q, e) == Missing })
}
