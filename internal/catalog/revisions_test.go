package catalog_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/catalog"
)

func TestRevisions(t *testing.T) {
	c := newCatalog(t)
	began := time.Now().Add(-time.Minute)
	for i := range 7 { // five of them are kept
		if _, err := c.Put(t.Context(), "sets", "a", fmt.Appendf(nil, "%d", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Create(t.Context(), "spaces", "gone", []byte(`"x"`)); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "spaces", "gone", 0); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := c.Revisions(t.Context(), func(r catalog.Revision) {
		if !r.Until.IsZero() && (r.Until.Before(began) || r.Until.After(time.Now().Add(time.Minute))) {
			t.Errorf("%s/%s ended at %s", r.Kind, r.ID, r.Until)
		}
		got = append(got, fmt.Sprintf("%s/%s %s %v", r.Kind, r.ID, r.JSON, r.Until.IsZero()))
	})
	slices.Sort(got)
	want := []string{"sets/a 2 false", "sets/a 3 false", "sets/a 4 false", "sets/a 5 false", "sets/a 6 true", `spaces/gone "x" false`}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if err := newCatalog(t).Revisions(t.Context(), func(catalog.Revision) { t.Error("something in an empty catalog") }); err != nil {
		t.Error(err)
	}
}
