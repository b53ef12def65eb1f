package client_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, s *clienttest.Server) *client.Client {
	t.Helper()
	c, err := client.New(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
