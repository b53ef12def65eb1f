package main

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/common/config"
	"github.com/aetherium/aetherium/libs/types"
)

// settings are all that can be set, for whichever command.
type settings struct {
	LogLevel, LogFormat string

	DatabaseURL, RedisURL, ClusterToken string

	Listen       string
	InsecureOpen bool
	Hosts        []string
	Migrate      bool

	DataDir        string
	Direct         string
	Advertise      string
	Labels         map[string]string
	Bridge, Subnet string
	Runsc          string
	CPUOvercommit  float64
	Slots          int
}

const (
	defaultDataDir = "/var/lib/aetherium"
	defaultListen  = "127.0.0.1:8080"
)

// sharedFlags are those of gateway and worker alike.
func (s *settings) sharedFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.DatabaseURL, "database-url", "", "postgres://user:password@host/database")
	f.StringVar(&s.RedisURL, "redis-url", "", "redis://, rediss://, redis-sentinel:// or redis-cluster:// address")
	f.StringVar(&s.ClusterToken, "cluster-token", "", "secret by which gateways are known to workers")
	config.Secret(f, "database-url")
	config.Secret(f, "redis-url")
	config.Secret(f, "cluster-token")
}

func (s *settings) gatewayFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.Listen, "listen", defaultListen, "address of the REST API")
	f.BoolVar(&s.InsecureOpen, "insecure-open", false, "listen beyond loopback although anybody who reaches the address can run code")
	f.StringSliceVar(&s.Hosts, "host", nil, "further names by which clients call this gateway")
	f.BoolVar(&s.Migrate, "migrate", true, "bring the database's schema up to date at the start")
}

func (s *settings) workerFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.DataDir, "data-dir", defaultDataDir, "folder for VMs, images and, when embedded, the database")
	f.StringToStringVar(&s.Labels, "labels", nil, "key=value,… for placement")
	f.StringVar(&s.Bridge, "bridge", "aether0", "bridge for the VMs; two workers on a host need two")
	f.StringVar(&s.Subnet, "subnet", "10.88.0.0/16", "IPv4 network of the bridge")
	f.StringVar(&s.Runsc, "runsc", "", "runsc program; else the one beside aetherium, then that on PATH")
	f.Float64Var(&s.CPUOvercommit, "cpu-overcommit", 16, "virtual CPUs to give out for each CPU")
	f.IntVar(&s.Slots, "slots", 256, "tasks at once; a running command holds one")
}

// directFlags are those of a worker that gateways reach over the network.
func (s *settings) directFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.Direct, "listen", "127.0.0.1:8090", "address where gateways reach this worker's VMs")
	f.StringVar(&s.Advertise, "advertise", "", "that address as gateways know it, http://host:port; made of --listen if empty")
}

func (s *settings) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return nil, types.InvalidField("log_level", s.LogLevel, "is no level", "use debug, info, warn or error")
	}
	options := &slog.HandlerOptions{Level: level}
	switch s.LogFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, types.InvalidField("log_format", s.LogFormat, "is no form", "use text or json")
}

// loopback reports whether an address is this machine's alone.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// The validations answer everything that is wrong at once.

// validateGateway checks what the gateway needs.
func (s *settings) validateGateway() error {
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return types.InvalidField("listen", s.Listen, "is no address", "use HOST:PORT, as 127.0.0.1:8080")
	}
	if !loopback(s.Listen) && !s.InsecureOpen {
		return types.InvalidField("listen", s.Listen, "is reachable from other machines, and this gateway asks nobody who they are",
			"listen on 127.0.0.1 behind a proxy that authenticates, or give --insecure-open if everybody who reaches it may run code")
	}
	return nil
}

// validateDistributed checks what a part of a cluster needs.
func (s *settings) validateDistributed() error {
	var bad types.FieldErrors
	if s.DatabaseURL == "" {
		bad = append(bad, types.InvalidField("database_url", "", "is missing", "give the address of the PostgreSQL that gateways and workers share"))
	}
	if s.RedisURL == "" {
		bad = append(bad, types.InvalidField("redis_url", "", "is missing", "give the address of the Redis that gateways and workers share"))
	}
	return bad.Err()
}

func (s *settings) validateWorker() error {
	var bad types.FieldErrors
	if !filepath.IsAbs(s.DataDir) {
		bad = append(bad, types.InvalidField("data_dir", s.DataDir, "is no absolute path", "give the whole path, as "+defaultDataDir))
	}
	if _, err := netip.ParsePrefix(s.Subnet); err != nil {
		bad = append(bad, types.InvalidField("subnet", s.Subnet, "is no network", "use one like 10.88.0.0/16"))
	}
	if s.CPUOvercommit < 1 {
		bad = append(bad, types.InvalidField("cpu_overcommit", s.CPUOvercommit, "is less than 1", "use 1 or more"))
	}
	if s.Slots < 1 {
		bad = append(bad, types.InvalidField("slots", s.Slots, "is less than 1", "use 1 or more"))
	}
	return bad.Err()
}

// validateDirect checks where a worker is reached from other machines.
func (s *settings) validateDirect() error {
	var bad types.FieldErrors
	if _, _, err := net.SplitHostPort(s.Direct); err != nil {
		bad = append(bad, types.InvalidField("listen", s.Direct, "is no address", "use HOST:PORT, as 127.0.0.1:8090"))
	}
	if s.Advertise != "" {
		if u, err := url.Parse(s.Advertise); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			bad = append(bad, types.InvalidField("advertise", s.Advertise, "is no address that a gateway could call", "use http://host:port"))
		}
	}
	if s.ClusterToken == "" {
		bad = append(bad, types.InvalidField("cluster_token", "", "is missing", "give gateways and workers the same secret, for one "+strings.ToLower(rand.Text())))
	}
	return bad.Err()
}
