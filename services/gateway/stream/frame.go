package stream

import (
	"encoding/binary"
	"encoding/json"

	"github.com/aetherium/aetherium/libs/types"
)

// Protocol is the WebSocket subprotocol of attached commands. Its messages are
// binary; the first byte says what they are:
//
//	to the client   1 stdout, 2 stderr: 8 bytes big-endian offset in both streams together, data
//	                3 the end, and the last message: JSON {"result": …} or {"error": …}, or both
//	                5 a gap, output that was cut: JSON {"gap": {"offset", "length"}}
//	                6 the task, first of all and only for a shell: JSON {"task_id": …}
//	from the client 0 stdin: 8 bytes big-endian offset in stdin, data
//	                4 control: JSON {"resize": {"rows", "cols"}}, {"signal": "SIGINT"} or {"stdin_eof": true}
const Protocol = "aetherium.exec.v1"

const (
	frameStdout = 1
	frameStderr = 2
	frameEnd    = 3
	frameTask   = 6
)

// outputFrame makes the message for one chunk.
func outputFrame(c types.OutputChunk) []byte {
	b := make([]byte, 9, 9+len(c.Data))
	b[0] = frameStdout
	if c.Stream == types.Stderr {
		b[0] = frameStderr
	}
	binary.BigEndian.PutUint64(b[1:], uint64(c.Offset)) //nolint:gosec // never negative
	return append(b, c.Data...)
}

// ending is the JSON of the last message.
type ending struct {
	Result *types.ExecResult `json:"result,omitempty"`
	Error  *types.Error      `json:"error,omitempty"`
}

// endFrame makes the last message for a task that has ended. The output was sent
// before, so the result goes without it.
func endFrame(task types.Task) ([]byte, error) {
	var end ending
	if len(task.Result) > 0 {
		if err := json.Unmarshal(task.Result, &end.Result); err != nil {
			return nil, types.Errorf(types.KindInternal, "the result of task %s cannot be read: %w", task.ID, err)
		}
		end.Result.Stdout, end.Result.Stderr = "", ""
	}
	end.Error = task.Error
	if end.Result == nil && end.Error == nil {
		end.Error = types.Errorf(types.KindCanceled, "the task ended %s: %s", task.State, task.Reason)
	}
	return jsonFrame(frameEnd, end)
}

func errorFrame(err error) []byte {
	b, merr := jsonFrame(frameEnd, ending{Error: types.AsError(err)})
	if merr != nil { // strings alone always marshal
		return []byte{frameEnd, '{', '}'}
	}
	return b
}

func taskFrame(id string) ([]byte, error) {
	return jsonFrame(frameTask, map[string]string{"task_id": id})
}

func jsonFrame(kind byte, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	return append([]byte{kind}, body...), err
}
