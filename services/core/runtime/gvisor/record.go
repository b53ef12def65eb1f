package gvisor

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/runtime"
)

// record is what is remembered of a VM, in record.json. It is written last, once
// all else is there: a folder without it is half made.
type record struct {
	Spec    runtime.Spec
	IP      string
	Stopped bool // its disk is kept and nothing runs
}

func (v vm) load() (record, error) {
	var rec record
	b, err := os.ReadFile(v.path("record.json"))
	if errors.Is(err, os.ErrNotExist) {
		return rec, types.Errorf(types.KindNotFound, "this host has no VM %s", v.id)
	}
	if err != nil {
		return rec, types.Errorf(types.KindInternal, "read the record of VM %s: %w", v.id, err)
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return rec, types.Errorf(types.KindInternal, "read the record of VM %s: %w", v.id, err)
	}
	return rec, nil
}

func (v vm) save(rec record) error {
	b, err := json.Marshal(rec)
	if err == nil {
		err = os.WriteFile(v.path("record.new"), b, 0o600)
	}
	if err == nil {
		err = os.Rename(v.path("record.new"), v.path("record.json"))
	}
	if err != nil {
		return types.Errorf(types.KindUnavailable, "keep the record of VM %s: %w", v.id, err)
	}
	return nil
}
