package types

import "strings"

// FieldErrors is everything that is wrong with one request, so that its sender
// can mend it in one go. It unwraps to its parts: KindOf and AsError see the
// first.
type FieldErrors []*Error

func (f FieldErrors) Error() string {
	parts := make([]string, len(f))
	for i, e := range f {
		parts[i] = e.Error()
	}
	return strings.Join(parts, "; ")
}

// Unwrap answers the parts.
func (f FieldErrors) Unwrap() []error {
	errs := make([]error, len(f))
	for i, e := range f {
		errs[i] = e
	}
	return errs
}

// Err answers nil for none, the one itself, or all of them.
func (f FieldErrors) Err() error {
	switch len(f) {
	case 0:
		return nil
	case 1:
		return f[0]
	default:
		return f
	}
}

// add collects one more bad field.
func (f *FieldErrors) add(field string, value any, message, remedy string) {
	*f = append(*f, InvalidField(field, value, message, remedy))
}
