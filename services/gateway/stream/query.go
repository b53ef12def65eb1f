package stream

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/aetherium/aetherium/libs/types"
)

// query reads a request's parameters and collects what is wrong with them.
type query struct {
	values url.Values
	bad    types.FieldErrors
}

func queryOf(r *http.Request, known ...string) *query {
	q := &query{values: r.URL.Query()}
	for name := range q.values {
		if !slices.Contains(known, name) {
			q.wrong(name, "is not known here", "remove it; GET /api/v1/docs lists what is")
		}
	}
	return q
}

func (q *query) wrong(name, message, remedy string) {
	q.bad = append(q.bad, types.InvalidField(name, q.values.Get(name), message, remedy))
}

func (q *query) text(name string) string { return q.values.Get(name) }

func (q *query) number(name string, def, least, most int64) int64 {
	v := q.values.Get(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least || n > most {
		q.wrong(name, "is no number in range", "use "+strconv.FormatInt(least, 10)+" to "+strconv.FormatInt(most, 10))
		return def
	}
	return n
}

func (q *query) flag(name string) bool {
	v := q.values.Get(name)
	if v == "" {
		return false
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		q.wrong(name, "is no boolean", "use true or false")
	}
	return b
}

// resumeFrom answers the position of a client that comes again, which
// overrides def (WHATWG HTML, section 9.2.4).
func (q *query) resumeFrom(r *http.Request, def int64) int64 {
	v := r.Header.Get("Last-Event-ID")
	if v == "" {
		return def
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		q.bad = append(q.bad, types.InvalidField("Last-Event-ID", v, "is no id of ours", "send the id of the last event that you have"))
		return def
	}
	return n
}

// also takes in what a validation found.
func (q *query) also(err error) {
	if all, ok := errors.AsType[types.FieldErrors](err); ok {
		q.bad = append(q.bad, all...)
	} else if err != nil {
		q.bad = append(q.bad, types.AsError(err))
	}
}

func (q *query) err() error { return q.bad.Err() }
