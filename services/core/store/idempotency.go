package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/aetherium/aetherium/libs/types"
)

// Idempotency makes a repeated request answer what the first one did. The zero
// value is none.
type Idempotency struct {
	Key         string // the client's
	RequestHash string // of all that the request asked for
}

// KeepKeys is how long an idempotency key is remembered.
const KeepKeys = 24 * time.Hour

// claimKey takes a key for a new task, or answers the task that has it.
func (x *tx) claimKey(i Idempotency, taskID string) (*types.Task, error) {
	if i.Key == "" {
		return nil, nil
	}
	// An insert of a key that another transaction is inserting waits for it.
	n, err := x.exec(`INSERT INTO idempotency_keys (idem_key, request_hash, task_id, created_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (idem_key) DO UPDATE SET request_hash = excluded.request_hash, task_id = excluded.task_id, created_at = excluded.created_at
		WHERE idempotency_keys.created_at < $5`,
		i.Key, i.RequestHash, taskID, x.s.ts(x.now), x.s.ts(x.now.Add(-KeepKeys)))
	if err != nil || n == 1 {
		return nil, err
	}
	var hash string
	var earlier string
	if err := x.QueryRowContext(x.ctx, "SELECT request_hash, task_id FROM idempotency_keys WHERE idem_key = $1", i.Key).Scan(&hash, &earlier); err != nil {
		return nil, err
	}
	if hash != i.RequestHash {
		return nil, &types.Error{Kind: types.KindConflict, Field: "Idempotency-Key", Value: i.Key,
			Message: "this key was used for another request", Remedy: "use a new key for each request, and the same one only to repeat it unchanged"}
	}
	t, err := scanTask(x.QueryRowContext(x.ctx, "SELECT "+taskColumns+" FROM tasks t WHERE t.id = $1", earlier))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, noTask(earlier)
	}
	return &t, err
}

// SweepIdempotency forgets the keys that were first used before a time.
func (s *Store) SweepIdempotency(ctx context.Context, before time.Time) error {
	return s.inTx(ctx, "sweep idempotency keys", func(x *tx) error {
		_, err := x.exec("DELETE FROM idempotency_keys WHERE created_at < $1", s.ts(before))
		return err
	})
}
