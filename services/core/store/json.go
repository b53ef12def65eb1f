package store

import (
	"encoding/json"
	"fmt"
)

// toJSON is a value as a JSON column takes it; nil maps become {}.
func toJSON(v any) any {
	switch m := v.(type) {
	case map[string]string:
		if m == nil {
			return "{}"
		}
	case json.RawMessage:
		if len(m) == 0 {
			return nil
		}
		return string(m)
	}
	b, err := json.Marshal(v)
	if err != nil {
		// Only our own types come here, and they can all be written.
		panic(fmt.Sprintf("store: %T has no JSON form: %v", v, err))
	}
	if string(b) == "null" {
		return nil
	}
	return string(b)
}

// jsonScanner reads a JSON column into a value.
type jsonScanner struct{ to any }

func fromJSON(to any) jsonScanner { return jsonScanner{to} }

// Scan implements sql.Scanner.
func (s jsonScanner) Scan(v any) error {
	var b []byte
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		b = []byte(v)
	case []byte:
		b = append(b, v...) // the driver's buffer is not ours to keep
	default:
		return fmt.Errorf("%T is no JSON", v)
	}
	if raw, ok := s.to.(*json.RawMessage); ok {
		*raw = b
		return nil
	}
	return json.Unmarshal(b, s.to)
}
