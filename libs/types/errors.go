package types

import (
	"errors"
	"fmt"
	"net/http"
)

// Kind classifies an error. It decides, in one table, the HTTP status, the
// CLI's exit code and whether a retry may cure it.
type Kind string

// The kinds of error. Each is a stable, public identifier.
const (
	KindInvalid     Kind = "invalid"       // the request is wrong, whoever sends it
	KindNotFound    Kind = "not_found"     // no such object
	KindForbidden   Kind = "forbidden"     // whoever asks may not
	KindConflict    Kind = "conflict"      // the object's state forbids it, or the name is taken
	KindTooLarge    Kind = "too_large"     // a body, file or value over its limit
	KindExhausted   Kind = "exhausted"     // a limit or capacity is used up
	KindUnavailable Kind = "unavailable"   // something needed does not answer now
	KindUnsupported Kind = "unsupported"   // this runtime or build cannot do that
	KindTimeout     Kind = "timeout"       // the caller's own time limit ran out
	KindCanceled    Kind = "canceled"      // someone canceled it
	KindInterrupted Kind = "interrupted"   // work that had begun was cut off and is not repeated
	KindOutOfMemory Kind = "out_of_memory" // the VM's memory limit was hit
	KindInternal    Kind = "internal"      // a fault of ours
)

// Trait is what follows from an error's kind.
type Trait struct {
	Title      string // short, for problem+json
	HTTPStatus int    // the status of an HTTP answer
	ExitCode   int    // the exit code of the CLI
	Retryable  bool   // whether a task that ended so may be tried again
}

var traits = map[Kind]Trait{
	KindInvalid:     {"Invalid request", http.StatusUnprocessableEntity, 2, false},
	KindNotFound:    {"Not found", http.StatusNotFound, 4, false},
	KindForbidden:   {"Forbidden", http.StatusForbidden, 3, false},
	KindConflict:    {"Conflict", http.StatusConflict, 5, false},
	KindTooLarge:    {"Too large", http.StatusRequestEntityTooLarge, 2, false},
	KindExhausted:   {"Exhausted", http.StatusTooManyRequests, 6, true},
	KindUnavailable: {"Unavailable", http.StatusServiceUnavailable, 7, true},
	KindUnsupported: {"Unsupported", http.StatusNotImplemented, 8, false},
	KindTimeout:     {"Timed out", http.StatusGatewayTimeout, 9, false},
	KindCanceled:    {"Canceled", http.StatusConflict, 10, false},
	KindInterrupted: {"Interrupted", http.StatusConflict, 11, false},
	KindOutOfMemory: {"Out of memory", http.StatusConflict, 12, false},
	KindInternal:    {"Internal error", http.StatusInternalServerError, 1, true},
}

// TraitOf answers what follows from a kind; an unknown kind is internal.
func TraitOf(k Kind) Trait {
	if t, ok := traits[k]; ok {
		return t
	}
	return traits[KindInternal]
}

// Kinds lists every kind, for documents and tests.
func Kinds() []Kind {
	return []Kind{
		KindInvalid, KindNotFound, KindForbidden, KindConflict, KindTooLarge, KindExhausted, KindUnavailable,
		KindUnsupported, KindTimeout, KindCanceled, KindInterrupted, KindOutOfMemory, KindInternal,
	}
}

// Error is an error with a kind. It is what tasks record and what HTTP answers
// carry, so Message and Remedy are written for whoever made the request and
// hold no secret. The wrapped cause is for logs only.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`  // the offending field of the request, as a JSON path ("memory_mib")
	Value   string `json:"value,omitempty"`  // the offending value, shortened
	Remedy  string `json:"remedy,omitempty"` // what to do about it
	cause   error
}

func (e *Error) Error() string {
	msg := e.Message
	if e.Field != "" {
		msg = e.Field + ": " + msg
	}
	return msg
}

// Unwrap answers the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &Error{Kind: k}) match by kind alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Message == "" && t.Kind == e.Kind
}

// Errorf makes an error of a kind. A %w operand becomes the cause.
func Errorf(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Message: err.Error(), cause: errors.Unwrap(err)}
}

// InvalidField makes the error for one bad field: which, what it was, why that
// is wrong, and the remedy.
func InvalidField(field string, value any, message, remedy string) *Error {
	v := fmt.Sprint(value)
	if len(v) > 120 {
		v = v[:120] + "…"
	}
	return &Error{Kind: KindInvalid, Field: field, Value: v, Message: message, Remedy: remedy}
}

// WithRemedy answers the same error with a remedy.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	c := *e
	c.Remedy = fmt.Sprintf(format, args...)
	return &c
}

// KindOf answers the kind of the first *Error in err's chain; internal if none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}

// AsError answers err as an *Error: itself if it has one in its chain (with the
// context that was wrapped around it kept in the message), else internal.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return &Error{Kind: KindInternal, Message: err.Error(), cause: err}
	}
	if error(e) == err {
		return e
	}
	c := *e
	c.Message = err.Error()
	c.cause = err
	if c.Field != "" {
		c.Message = e.Message
	}
	return &c
}
