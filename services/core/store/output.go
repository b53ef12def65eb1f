package store

import (
	"context"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

// MaxChunk is the most bytes that one chunk of output may have. It lets a read
// begin by the index: a chunk that reaches past an offset begins less than this
// before it, in its stream and so in both together.
const MaxChunk = 1 << 20

// AppendOutput keeps a piece of a command's output. A chunk that is kept already
// (by its offset) is passed over, so the call can be repeated; chunks must not
// overlap in part.
func (s *Store) AppendOutput(ctx context.Context, taskID string, chunks []types.OutputChunk) error {
	if len(chunks) == 0 {
		return nil
	}
	return s.inTx(ctx, "keep output of task "+taskID, func(x *tx) error {
		var p params
		var rows []string
		for _, c := range chunks {
			if len(c.Data) > MaxChunk {
				return types.Errorf(types.KindTooLarge, "a chunk of output has %d bytes, more than %d", len(c.Data), MaxChunk)
			}
			rows = append(rows, "("+p.add(taskID, c.Offset, c.Stream, c.StreamOffset, s.ts(c.At), c.Data)+")")
		}
		_, err := x.exec("INSERT INTO task_output (task_id, pos, stream, stream_offset, at, data) VALUES "+
			strings.Join(rows, ", ")+" ON CONFLICT DO NOTHING", p.args...)
		return err
	})
}

// ReadOutput answers kept output from an offset on, about maxBytes of it (one
// chunk at least, if there is any). The offset is in both streams together, or,
// where a stream is named, in that stream; a chunk that begins before it is cut.
func (s *Store) ReadOutput(ctx context.Context, taskID string, stream types.Stream, offset int64, maxBytes int) ([]types.OutputChunk, error) {
	var p params
	column, where := "pos", "task_id = "+p.add(taskID)
	if stream != "" {
		column = "stream_offset"
		where += " AND stream = " + p.add(string(stream))
	}
	rows, err := s.read.QueryContext(ctx, "SELECT pos, stream, stream_offset, at, data FROM task_output WHERE "+where+
		" AND pos > "+p.add(offset-MaxChunk)+" AND "+column+" + length(data) > "+p.add(offset)+" ORDER BY pos", p.args...)
	if err != nil {
		return nil, typed("read output of task "+taskID, err)
	}
	defer func() { _ = rows.Close() }()
	chunks := []types.OutputChunk{}
	for left := maxBytes; left > 0 && rows.Next(); {
		var c types.OutputChunk
		if err := rows.Scan(&c.Offset, &c.Stream, &c.StreamOffset, at(&c.At), &c.Data); err != nil {
			return nil, typed("read output of task "+taskID, err)
		}
		from := c.Offset
		if stream != "" {
			from = c.StreamOffset
		}
		if cut := offset - from; cut > 0 {
			c.Offset, c.StreamOffset, c.Data = c.Offset+cut, c.StreamOffset+cut, c.Data[cut:]
		}
		chunks = append(chunks, c)
		left -= len(c.Data)
	}
	return chunks, typed("read output of task "+taskID, rows.Err())
}
