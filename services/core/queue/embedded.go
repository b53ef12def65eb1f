package queue

import (
	"context"
	"net"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Embedded is the URL of a Redis inside this process. It keeps nothing on disk
// and listens nowhere: connections are pipes in memory.
const Embedded = "embedded"

func embedded() (*redis.UniversalOptions, func()) {
	server := miniredis.NewMiniRedis()
	return &redis.UniversalOptions{
		Addrs: []string{Embedded},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return server.Dial()
		},
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}, server.Close
}
