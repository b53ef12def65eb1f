package queue

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/aetherium/aetherium/libs/types"
)

// scheme is what a URL's scheme says about the servers behind it.
type scheme struct {
	port              string // where a host names none
	tls               bool
	sentinel, cluster bool
}

var schemes = map[string]scheme{
	"redis":           {port: "6379"},
	"rediss":          {port: "6379", tls: true},
	"redis-sentinel":  {port: "26379", sentinel: true},
	"rediss-sentinel": {port: "26379", sentinel: true, tls: true},
	"redis-cluster":   {port: "6379", cluster: true},
	"rediss-cluster":  {port: "6379", cluster: true, tls: true},
}

// parseURL reads one of
//
//	redis[s]://[user:password@]host[:port][/db]
//	redis[s]-sentinel://[user:password@]host[:port],…/master[/db]
//	redis[s]-cluster://[user:password@]host[:port],…
//
// with the query parameters db, sentinel_username, sentinel_password, tls_ca (a
// PEM file), tls_server_name and tls_skip_verify=true.
func parseURL(s string) (*redis.UniversalOptions, error) {
	name, rest, ok := strings.Cut(s, "://")
	kind, known := schemes[name]
	if !ok || !known {
		return nil, invalidURL("has no scheme that is known", "use redis://, rediss://, redis-sentinel:// or redis-cluster://, or the word embedded")
	}
	// A list of hosts is no URL to net/url: cut it out and parse the rest.
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	userinfo, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		userinfo, hosts = authority[:i+1], authority[i+1:]
	}
	u, err := url.Parse(name + "://" + userinfo + "hosts" + tail)
	if err != nil {
		return nil, invalidURL("cannot be read", "percent-encode special characters in user name and password")
	}
	opts := &redis.UniversalOptions{
		IsClusterMode:            kind.cluster,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if u.User != nil {
		opts.Username = u.User.Username()
		opts.Password, _ = u.User.Password()
	}
	if opts.Addrs, err = addresses(hosts, kind); err != nil {
		return nil, err
	}
	if err := setPath(opts, u.Path, kind); err != nil {
		return nil, err
	}
	return opts, setQuery(opts, u.Query(), kind)
}

func addresses(hosts string, kind scheme) ([]string, error) {
	var addrs []string
	for h := range strings.SplitSeq(hosts, ",") {
		if h == "" {
			return nil, invalidURL("names no host", "as in redis://localhost:6379")
		}
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), kind.port)
		}
		addrs = append(addrs, h)
	}
	if len(addrs) > 1 && !kind.sentinel && !kind.cluster {
		return nil, invalidURL("names several hosts", "use redis-sentinel:// or redis-cluster:// for more than one")
	}
	return addrs, nil
}

func setPath(opts *redis.UniversalOptions, path string, kind scheme) error {
	path = strings.Trim(path, "/")
	if kind.sentinel {
		opts.MasterName, path, _ = strings.Cut(path, "/")
		if opts.MasterName == "" {
			return invalidURL("names no master", "as in redis-sentinel://host1,host2/mymaster")
		}
	}
	if path == "" {
		return nil
	}
	return setDB(opts, path, kind)
}

func setDB(opts *redis.UniversalOptions, s string, kind scheme) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return invalidURL("has a database that is no number", "as in redis://localhost:6379/1")
	}
	if kind.cluster && n != 0 {
		return invalidURL("names a database, which a cluster does not have", "leave it out")
	}
	opts.DB = n
	return nil
}

func setQuery(opts *redis.UniversalOptions, query url.Values, kind scheme) error {
	var conf *tls.Config
	if kind.tls {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	for key := range query {
		value := query.Get(key)
		switch {
		case key == "db":
			if err := setDB(opts, value, kind); err != nil {
				return err
			}
		case key == "sentinel_username" && kind.sentinel:
			opts.SentinelUsername = value
		case key == "sentinel_password" && kind.sentinel:
			opts.SentinelPassword = value
		case key == "tls_server_name" && kind.tls:
			conf.ServerName = value
		case key == "tls_skip_verify" && kind.tls:
			conf.InsecureSkipVerify = value == "true"
		case key == "tls_ca" && kind.tls:
			pool, err := readCA(value)
			if err != nil {
				return err
			}
			conf.RootCAs = pool
		default:
			return invalidURL("has the parameter "+strconv.Quote(key)+", which means nothing here", "leave it out")
		}
	}
	opts.TLSConfig = conf
	return nil
}

func readCA(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, invalidURL("names a tls_ca file that cannot be read", "give a PEM file")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, invalidURL("names a tls_ca file with no certificate in it", "give a PEM file")
	}
	return pool, nil
}

// invalidURL keeps the URL itself out of the error: it may hold a password.
func invalidURL(message, remedy string) error {
	return &types.Error{Kind: types.KindInvalid, Field: "redis_url", Message: message, Remedy: remedy}
}
