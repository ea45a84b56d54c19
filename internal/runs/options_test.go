package runs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

func TestOptionsThereAndBack(t *testing.T) {
	t.Parallel()
	id := newID(time.Now())
	want := Options{
		Priority: High, Labels: map[string]string{"team": "vision"}, Deadline: time.Now().UTC().Round(time.Second),
		TimeLimit: time.Hour, After: []string{id},
	}
	if diff := cmp.Diff(want, OptionsOf(want.Proto())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Options{}, OptionsOf(nil)); diff != "" {
		t.Error(diff)
	}
	if err := want.check(); err != nil {
		t.Error(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	bad := OptionsOf(&runv1.RunOptions{TimeLimit: durationpb.New(0), After: []string{"runs/../x"}, Labels: map[string]string{"A b": ""}})
	_, _, err := s.Submit(t.Context(), Spec{Kind: "dream", Options: bad})
	if !errors.Is(err, ErrInvalid) {
		t.Fatalf("accepted, or refused as %v", err)
	}
	for _, want := range []string{"time limit", "after", "label"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name the %s", err, want)
		}
	}
}
