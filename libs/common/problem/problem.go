// Package problem puts Aetherium's typed errors into HTTP answers and takes
// them out again, in the form of RFC 9457 (application/problem+json). Gateway,
// worker and client all speak it.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/aetherium/aetherium/libs/types"
)

const (
	// ContentType is the media type of a problem (RFC 9457, section 3).
	ContentType = "application/problem+json"

	// HeaderRequestID carries a request's id, both ways.
	HeaderRequestID = "X-Request-Id"

	typePrefix     = "urn:aetherium:problem:"
	instancePrefix = "urn:aetherium:request:"

	// maxRead bounds what Read takes from a peer.
	maxRead = 256 << 10
)

// Problem is the body of an answer that reports an error.
type Problem struct {
	Type     string  `json:"type" doc:"Stable: urn:aetherium:problem:<kind>."`
	Title    string  `json:"title" doc:"The kind in words."`
	Status   int     `json:"status" doc:"The HTTP status."`
	Detail   string  `json:"detail" doc:"What is wrong, for a person."`
	Instance string  `json:"instance,omitempty" doc:"urn:aetherium:request:<request id>, to be found in the server's log."`
	Field    string  `json:"field,omitempty" doc:"The offending field of the request, as a JSON path."`
	Value    string  `json:"value,omitempty" doc:"The offending value, shortened."`
	Remedy   string  `json:"remedy,omitempty" doc:"What to do about it."`
	Errors   []Field `json:"errors,omitempty" doc:"Each bad field, where the request has any."`
}

// Field is one bad field of a request.
type Field struct {
	Field   string `json:"field"`
	Value   string `json:"value,omitempty"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// TypeOf answers the type URI of a kind.
func TypeOf(k types.Kind) string { return typePrefix + string(k) }

// Of makes the problem for an error, with the status that its kind has. The
// text of an untyped error is not shown: nobody wrote it for a client.
func Of(err error) Problem {
	e := types.AsError(err)
	trait := types.TraitOf(e.Kind)
	p := Problem{
		Type: TypeOf(e.Kind), Title: trait.Title, Status: trait.HTTPStatus,
		Detail: e.Message, Field: e.Field, Value: e.Value, Remedy: e.Remedy,
	}
	if !typed(err) {
		p.Detail = "a fault inside Aetherium stopped this request"
		p.Remedy = "try again; the server's log has the cause under this request's id"
		return p
	}
	if e.Kind != types.KindInvalid {
		return p
	}
	if all, ok := errors.AsType[types.FieldErrors](err); ok {
		for _, f := range all {
			p.Errors = append(p.Errors, fieldOf(f))
		}
		p.Detail = fmt.Sprintf("%d fields are wrong: %s", len(all), all.Error())
		p.Field, p.Value, p.Remedy = "", "", "mend each field as errors says"
	} else if e.Field != "" {
		p.Errors = []Field{fieldOf(e)}
		p.Detail = e.Error()
	}
	return p
}

func typed(err error) bool {
	_, ok := errors.AsType[*types.Error](err)
	return ok
}

func fieldOf(e *types.Error) Field {
	return Field{Field: e.Field, Value: e.Value, Message: e.Message, Remedy: e.Remedy}
}

// Write answers r with err as a problem. An untyped error is logged with its
// text, which the client does not see.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	write(w, r, Of(err), err)
}

// WriteStatus is Write with a status of HTTP's own, such as 400 for a body that
// is no JSON, or 405.
func WriteStatus(w http.ResponseWriter, r *http.Request, status int, err error) {
	p := Of(err)
	p.Status = status
	write(w, r, p, err)
}

// Instance answers the instance URI of the answer that w begins; "" without a
// request id.
func Instance(w http.ResponseWriter) string {
	if id := w.Header().Get(HeaderRequestID); id != "" {
		return instancePrefix + id
	}
	return ""
}

// Log logs an error that the client is not shown, for those who write a problem
// themselves.
func Log(w http.ResponseWriter, r *http.Request, err error) {
	if !typed(err) {
		slog.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path,
			"request_id", w.Header().Get(HeaderRequestID), "error", err)
	}
}

func write(w http.ResponseWriter, r *http.Request, p Problem, err error) {
	p.Instance = Instance(w)
	Log(w, r, err)
	body, merr := json.Marshal(p)
	if merr != nil { // strings and an int always marshal
		body = []byte("{}")
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	for _, k := range []string{"Content-Encoding", "ETag", "Last-Modified", "Content-Disposition"} {
		h.Del(k)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client may be gone
}

// Read makes an error of an answer whose status is 400 or above: a *types.Error,
// or types.FieldErrors for several bad fields. The body is read but not closed.
// An answer that is no problem, as from a proxy between, becomes an error of the
// kind that its status suggests.
func Read(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	if err != nil {
		return types.Errorf(types.KindUnavailable, "reading the server's answer: %w", err)
	}
	var p Problem
	kind, found := types.Kind(""), false
	if json.Unmarshal(body, &p) == nil {
		var k string
		k, found = strings.CutPrefix(p.Type, typePrefix)
		kind = types.Kind(k)
	}
	if !found {
		return foreign(resp, body)
	}
	if len(p.Errors) > 1 {
		all := make(types.FieldErrors, len(p.Errors))
		for i, f := range p.Errors {
			all[i] = &types.Error{Kind: kind, Message: f.Message, Field: f.Field, Value: f.Value, Remedy: f.Remedy}
		}
		return all
	}
	e := &types.Error{Kind: kind, Message: p.Detail, Field: p.Field, Value: p.Value, Remedy: p.Remedy}
	if len(p.Errors) == 1 {
		e.Message = p.Errors[0].Message
	}
	return e
}

// foreign makes an error of an answer that none of our programs wrote.
func foreign(resp *http.Response, body []byte) error {
	kind := types.KindInternal
	switch resp.StatusCode {
	case http.StatusBadGateway:
		kind = types.KindUnavailable
	case http.StatusBadRequest:
		kind = types.KindInvalid
	case http.StatusUnauthorized:
		kind = types.KindForbidden
	default:
		for _, k := range types.Kinds() {
			if types.TraitOf(k).HTTPStatus == resp.StatusCode {
				kind = k
				break
			}
		}
	}
	text := strings.ToValidUTF8(strings.TrimSpace(string(body)), "�")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	if text == "" {
		text = http.StatusText(resp.StatusCode)
	}
	return types.Errorf(kind, "the server answered %d: %s", resp.StatusCode, text)
}
