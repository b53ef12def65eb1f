package store

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

const defaultPage = 100

// page answers one page of a list, newest first: ids are UUIDv7, so their order
// is that of creation. The cursor is the last id, made opaque.
func page[T any](ctx context.Context, s *Store, doing, query, id string, where []string, p *params, limit int, cursor string,
	scan func(row) (T, error), idOf func(T) string) ([]T, string, error) {
	if cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil {
			return nil, "", types.InvalidField("cursor", cursor, "is no cursor of this list", "use the next_cursor of the page before")
		}
		where = append(where, id+" < "+p.add(string(last)))
	}
	if limit <= 0 {
		limit = defaultPage
	}
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	list, err := collect(ctx, s.read, scan, fmt.Sprintf("%s ORDER BY %s DESC LIMIT %d", query, id, limit+1), p.args...)
	if err != nil || len(list) <= limit {
		return list, "", typed(doing, err)
	}
	list = list[:limit]
	return list, base64.RawURLEncoding.EncodeToString([]byte(idOf(list[limit-1]))), nil
}
