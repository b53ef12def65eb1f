package client_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/client/clienttest"
	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

func TestTunnel(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	s.Handle("GET /api/v1/vms/{vm}/tunnels/{port}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("port") != "80" {
			problem.Write(w, r, types.Errorf(types.KindUnavailable, "nobody listens"))
			return
		}
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		conn := websocket.NetConn(r.Context(), ws, websocket.MessageBinary)
		_, _ = io.CopyN(conn, conn, 1<<20)
		_ = conn.Close()
	})
	c := dial(t, s)
	conn, err := c.Tunnel(t.Context(), "vm", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	wrote := make(chan error, 1)
	go func() { _, err := conn.Write(sent); wrote <- err }()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if _, err := c.Tunnel(t.Context(), "vm", 81); types.KindOf(err) != types.KindUnavailable {
		t.Error(err)
	}
}
