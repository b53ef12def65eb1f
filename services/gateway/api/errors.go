package api

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

// huma asks for its errors by these variables and has no other way.
func init() { //nolint:gochecknoinits // see above
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return answerOf(nil, status, msg, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return answerOf(ctx, status, msg, errs)
	}
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
}

// answer is a problem as huma writes it.
type answer struct {
	problem.Problem
}

func (a *answer) Error() string             { return a.Detail }
func (a *answer) GetStatus() int            { return a.Status }
func (a *answer) ContentType(string) string { return problem.ContentType }

// answerOf makes our problem of what huma found wrong, or of what a handler
// answered.
func answerOf(ctx huma.Context, status int, msg string, errs []error) huma.StatusError {
	err := errorOf(ctx, status, msg, errs)
	a := &answer{Problem: problem.Of(err)}
	if status >= 400 && status < 500 {
		a.Status = status // HTTP's own finer ones: 400, 408, 415
	}
	if ctx == nil {
		return a
	}
	r, w := humago.Unwrap(ctx)
	a.Instance = problem.Instance(w)
	problem.Log(w, r, err)
	return a
}

func errorOf(ctx huma.Context, status int, msg string, errs []error) error {
	if len(errs) == 1 {
		if _, detail := errs[0].(huma.ErrorDetailer); !detail { //nolint:errorlint // huma wraps none
			return errs[0] // from a handler
		}
	}
	switch status {
	case http.StatusRequestEntityTooLarge:
		return types.Errorf(types.KindTooLarge, "the body is too large").
			WithRemedy("send at most %d bytes of JSON; files go to /api/v1/vms/{vm}/files", maxBody)
	case http.StatusRequestTimeout:
		return types.Errorf(types.KindTimeout, "the body did not come in time").WithRemedy("try again")
	case http.StatusUnsupportedMediaType:
		return types.Errorf(types.KindInvalid, "the body's type is not known here").
			WithRemedy("send JSON, with Content-Type: application/json")
	case http.StatusBadRequest:
		return malformed(msg, errs)
	}
	if status >= http.StatusInternalServerError {
		return errors.Join(append([]error{errors.New(msg)}, errs...)...)
	}
	var bad types.FieldErrors
	for _, e := range errs {
		if d, ok := e.(huma.ErrorDetailer); ok { //nolint:errorlint // huma wraps none
			bad = append(bad, fieldsOf(ctx, d.ErrorDetail())...)
		}
	}
	bad = unique(bad)
	if len(bad) == 0 {
		return types.Errorf(types.KindInvalid, "%s", msg)
	}
	return bad.Err()
}

func malformed(msg string, errs []error) error {
	for _, e := range errs {
		if d, ok := e.(huma.ErrorDetailer); ok { //nolint:errorlint // huma wraps none
			msg = "the body is no JSON: " + d.ErrorDetail().Message
		}
	}
	return types.Errorf(types.KindInvalid, "%s", msg).WithRemedy("send a JSON object")
}

// fieldsOf says in our form what one detail of huma's says.
func fieldsOf(ctx huma.Context, d *huma.ErrorDetail) types.FieldErrors {
	place, field, _ := strings.Cut(d.Location, ".")
	switch {
	case place == "body" && d.Message == validation.MsgUnexpectedProperty:
		return types.FieldErrors{types.InvalidField(field, "", "is not known here", suggest(field, slices.Sorted(maps.Keys(bodyOf(ctx).Properties))))}
	case place == "query" && !knowsQuery(ctx, field):
		return types.FieldErrors{types.InvalidField(field, "", "is no parameter here", suggest(field, queriesOf(ctx)))}
	}
	if whole, ok := d.Value.(map[string]any); ok && field == "" {
		if missing := missingFrom(bodyOf(ctx), whole); len(missing) > 0 {
			return missing
		}
	}
	if field == "" {
		field = place
	}
	value := d.Value
	switch value.(type) {
	case map[string]any, []any, nil:
		value = ""
	}
	if place == "body" && strings.HasPrefix(field, "env.") {
		value = "" // it may be a secret
	}
	return types.FieldErrors{types.InvalidField(field, value, d.Message, "GET /api/v1/docs shows what it takes")}
}

// bodyOf answers the schema of the operation's JSON body; an empty one if it has
// none.
func bodyOf(ctx huma.Context) *huma.Schema {
	op := ctx.Operation()
	if op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil {
		return &huma.Schema{}
	}
	s := op.RequestBody.Content["application/json"].Schema
	if s.Ref != "" {
		s = op.Metadata[schemasKey].(huma.Registry).SchemaFromRef(s.Ref)
	}
	return s
}

func missingFrom(s *huma.Schema, whole map[string]any) types.FieldErrors {
	var missing types.FieldErrors
	for _, name := range s.Required {
		if _, ok := whole[name]; !ok {
			missing = append(missing, types.InvalidField(name, "", "is missing", "send it: "+strings.ToLower(s.Properties[name].Description)))
		}
	}
	return missing
}

func queriesOf(ctx huma.Context) []string {
	var names []string
	for _, p := range ctx.Operation().Parameters {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	return names
}

func knowsQuery(ctx huma.Context, name string) bool {
	name, _, _ = strings.Cut(name, "[") // label[2] is the third label
	return slices.Contains(queriesOf(ctx), name)
}

func unique(errs types.FieldErrors) types.FieldErrors {
	seen := map[string]bool{}
	return slices.DeleteFunc(errs, func(e *types.Error) bool {
		key := e.Field + "\x00" + e.Message
		was := seen[key]
		seen[key] = true
		return was
	})
}

// suggest answers what to do about a name that is not known: the one that was
// probably meant, or all there are.
func suggest(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "remove it"
	}
	return "remove it; known are " + strings.Join(known, ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
