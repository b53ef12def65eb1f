package problem_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/aetherium/aetherium/libs/common/problem"
	"github.com/aetherium/aetherium/libs/types"
)

// trip writes err as an answer and reads it back.
func trip(t *testing.T, err error) (*httptest.ResponseRecorder, error) {
	t.Helper()
	rec := httptest.NewRecorder()
	rec.Header().Set(problem.HeaderRequestID, "r-1")
	problem.Write(rec, httptest.NewRequest(http.MethodGet, "/x", nil), err)
	return rec, problem.Read(rec.Result())
}

func TestEveryKindMakesTheRoundTrip(t *testing.T) {
	t.Parallel()
	for _, k := range types.Kinds() {
		in := types.Errorf(k, "the %s thing", k).WithRemedy("do %s", k)
		rec, out := trip(t, fmt.Errorf("wrapped: %w", in))
		if rec.Code != types.TraitOf(k).HTTPStatus {
			t.Errorf("%s: status %d", k, rec.Code)
		}
		if got := rec.Header().Get("Content-Type"); got != problem.ContentType {
			t.Errorf("%s: content type %q", k, got)
		}
		if !strings.Contains(rec.Body.String(), `"urn:aetherium:request:r-1"`) {
			t.Errorf("%s: no instance in %s", k, rec.Body)
		}
		want := &types.Error{Kind: k, Message: "wrapped: the " + string(k) + " thing", Remedy: "do " + string(k)}
		if !reflect.DeepEqual(out, error(want)) {
			t.Errorf("%s: %#v", k, out)
		}
	}
}

func TestFieldsMakeTheRoundTrip(t *testing.T) {
	t.Parallel()
	one := types.InvalidField("vcpus", -1, "is out of range", "use 1 to 64")
	two := types.InvalidField("name", "A B", "is no valid name", "use a-z")
	for _, in := range []error{one, types.FieldErrors{one, two}} {
		rec, out := trip(t, in)
		if rec.Code != http.StatusUnprocessableEntity {
			t.Errorf("status %d", rec.Code)
		}
		if !reflect.DeepEqual(out, in) {
			t.Errorf("in %#v, out %#v", in, out)
		}
		if got := types.KindOf(out); got != types.KindInvalid {
			t.Errorf("kind %s", got)
		}
	}
}

func TestAnUntypedErrorKeepsItsTextToItself(t *testing.T) {
	t.Parallel()
	rec, out := trip(t, errors.New("dial postgres://u:hunter2@db"))
	if rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "hunter2") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if types.KindOf(out) != types.KindInternal {
		t.Errorf("%#v", out)
	}
}

func TestAForeignAnswerBecomesAnErrorOfItsStatus(t *testing.T) {
	t.Parallel()
	for status, kind := range map[int]types.Kind{
		http.StatusBadGateway: types.KindUnavailable, http.StatusServiceUnavailable: types.KindUnavailable,
		http.StatusNotFound: types.KindNotFound, http.StatusTeapot: types.KindInternal,
		http.StatusRequestEntityTooLarge: types.KindTooLarge, http.StatusBadRequest: types.KindInvalid,
	} {
		rec := httptest.NewRecorder()
		rec.WriteHeader(status)
		_, _ = rec.WriteString("<html>nginx\xff</html>" + strings.Repeat("é", 200))
		err := problem.Read(rec.Result())
		if types.KindOf(err) != kind || !strings.Contains(err.Error(), "nginx") {
			t.Errorf("%d: %v", status, err)
		}
	}
}
