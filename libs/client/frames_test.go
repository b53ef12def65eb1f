package client_test

import (
	"encoding/binary"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/aetherium/aetherium/libs/client/clienttest"
	"github.com/aetherium/aetherium/libs/types"
)

func frame(kind byte, offset uint64, data string) string {
	b := binary.BigEndian.AppendUint64([]byte{kind}, offset)
	return string(b) + data
}

// TestFrames reads messages as the protocol's description has them.
func TestFrames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		frames      []string
		out, errOut string
		cut, offset int64
		kind        types.Kind // of the error, if it is one
	}{
		"both streams":            {[]string{frame(1, 0, "ab"), frame(2, 2, "c"), "\x03{\"result\":{}}"}, "ab", "c", 0, 3, ""},
		"a gap":                   {[]string{frame(1, 0, "ab"), "\x05{\"gap\":{\"offset\":2,\"length\":10}}", frame(1, 12, "c"), "\x03{\"result\":{}}"}, "abc", "", 10, 13, ""},
		"a gap that is not told":  {[]string{frame(1, 5, "ab"), "\x03{\"result\":{}}"}, "ab", "", 5, 7, ""},
		"a gap at the end":        {[]string{frame(1, 0, "ab"), "\x03{\"result\":{\"output_truncated\":true,\"stdout_bytes\":7,\"stderr_bytes\":3}}"}, "ab", "", 8, 10, ""},
		"bytes that came already": {[]string{frame(1, 0, "abc"), frame(1, 1, "bcd"), frame(1, 0, "ab"), "\x03{\"result\":{}}"}, "abcd", "", 0, 4, ""},
		"unknown and empty ones":  {[]string{"", "\x06{\"task_id\":\"x\"}", "\xffwhat", frame(1, 0, "a"), "\x03{\"result\":{}}"}, "a", "", 0, 1, ""},
		"a failed task":           {[]string{"\x03{\"error\":{\"kind\":\"timeout\",\"message\":\"too long\"}}"}, "", "", 0, 0, ""},
		"half a header":           {[]string{"\x01\x00\x00"}, "", "", 0, 0, types.KindInternal},
		"an end that is no JSON":  {[]string{"\x03{"}, "", "", 0, 0, types.KindInternal},
		"a gap that is no JSON":   {[]string{"\x05{"}, "", "", 0, 0, types.KindInternal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := clienttest.New(t)
			s.Handle("GET /api/v1/tasks/a-task/attach", func(w http.ResponseWriter, r *http.Request) {
				conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"aetherium.exec.v1"}})
				if err != nil {
					return
				}
				for _, f := range c.frames {
					_ = conn.Write(r.Context(), websocket.MessageBinary, []byte(f))
				}
				_ = conn.Close(websocket.StatusNormalClosure, "")
			})
			var out, errOut strings.Builder
			a := dial(t, s).Attach("a-task", &out, &errOut)
			end, err := a.Run(t.Context())
			if c.kind != "" {
				if types.KindOf(err) != c.kind {
					t.Errorf("%+v, %v", end, err)
				}
				return
			}
			if err != nil || end.Result == nil && end.Error == nil {
				t.Fatalf("%+v, %v", end, err)
			}
			if out.String() != c.out || errOut.String() != c.errOut || a.Cut() != c.cut || a.Offset() != c.offset {
				t.Errorf("stdout %q, stderr %q, cut %d, offset %d", out.String(), errOut.String(), a.Cut(), a.Offset())
			}
		})
	}
}
