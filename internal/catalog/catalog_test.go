package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCatalog(t *testing.T) *catalog.Catalog {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	c, err := catalog.New(t.Context(), b.JetStream(), catalog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLife(t *testing.T) {
	c := newCatalog(t)
	ctx := t.Context()
	if _, err := c.Get(ctx, "sets", "demo"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("get of nothing: %v", err)
	}
	first, err := c.Create(ctx, "sets", "demo", []byte(`{"n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(ctx, "sets", "demo", []byte(`{}`)); !errors.Is(err, catalog.ErrExists) {
		t.Errorf("create twice: %v", err)
	}
	second, err := c.Put(ctx, "sets", "demo", []byte(`{"n":2}`), first)
	if err != nil || second <= first {
		t.Fatalf("put: revision %d after %d, %v", second, first, err)
	}
	if _, err := c.Put(ctx, "sets", "demo", []byte(`{"n":3}`), first); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("put on an old revision: %v", err)
	}
	if err := c.Delete(ctx, "sets", "demo", first); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("delete of an old revision: %v", err)
	}
	doc, err := c.Get(ctx, "sets", "demo")
	if err != nil || doc.Revision != second || string(doc.JSON) != `{"n":2}` || doc.Updated.IsZero() {
		t.Errorf("get: %+v, %v", doc, err)
	}
	if _, err := c.Get(ctx, "spaces", "demo"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("the same id of another kind: %v", err)
	}
	if err := c.Delete(ctx, "sets", "demo", second); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "sets", "demo", 0); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("delete twice: %v", err)
	}
	if _, err := c.Put(ctx, "sets", "demo", []byte(`{}`), second); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("put on a deleted revision: %v", err)
	}
	if _, err := c.Create(ctx, "sets", "demo", []byte(`{"n":4}`)); err != nil {
		t.Errorf("create after delete: %v", err)
	}
	if _, err := c.Put(ctx, "sets", "demo", []byte(`{"n":5}`), 0); err != nil {
		t.Errorf("put whatever is there: %v", err)
	}
}

func TestInvalid(t *testing.T) {
	c := newCatalog(t)
	for _, id := range []string{"", "Demo", "a.b", "a b", "*", ">", "-a", "_a", "../x", "é", string(bytes.Repeat([]byte("a"), 64))} {
		if _, err := c.Create(t.Context(), "sets", id, []byte(`{}`)); !errors.Is(err, catalog.ErrInvalidID) {
			t.Errorf("id %q: %v", id, err)
		}
		if _, err := c.Get(t.Context(), "sets", id); !errors.Is(err, catalog.ErrInvalidID) {
			t.Errorf("get %q: %v", id, err)
		}
		if _, _, err := c.List(t.Context(), id, 0, ""); !errors.Is(err, catalog.ErrInvalidID) {
			t.Errorf("kind %q: %v", id, err)
		}
	}
	if _, err := c.Create(t.Context(), "sets", "a", []byte("{")); !errors.Is(err, catalog.ErrInvalidDocument) {
		t.Errorf("half a document: %v", err)
	}
	large := fmt.Appendf(nil, "%q", bytes.Repeat([]byte("a"), 2<<20))
	if _, err := c.Create(t.Context(), "sets", "a", large); !errors.Is(err, catalog.ErrInvalidDocument) {
		t.Errorf("2 MiB: %v", err)
	}
	if _, _, err := c.List(t.Context(), "sets", 0, "?"); !errors.Is(err, catalog.ErrInvalidPage) {
		t.Errorf("page token: %v", err)
	}
}

func TestPages(t *testing.T) {
	c := newCatalog(t)
	for _, i := range []int{7, 3, 0, 5, 1, 6, 2, 4} {
		if _, err := c.Create(t.Context(), "sets", fmt.Sprintf("s%d", i), fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Create(t.Context(), "spaces", "s9", []byte("9")); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "sets", "s5", 0); err != nil {
		t.Fatal(err)
	}
	var got, sizes string
	for token := ""; ; {
		docs, next, err := c.List(t.Context(), "sets", 3, token)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			got += string(doc.JSON)
		}
		sizes += fmt.Sprint(len(docs))
		if token = next; next == "" {
			break
		}
	}
	if got != "0123467" || sizes != "331" {
		t.Errorf("listed %s in pages of %s, want 0123467 in 331", got, sizes)
	}
	if docs, next, err := c.List(t.Context(), "detectors", 0, ""); len(docs) != 0 || next != "" || err != nil {
		t.Errorf("a kind without documents: %v, %q, %v", docs, next, err)
	}
}

func TestOneWriterWins(t *testing.T) {
	c := newCatalog(t)
	revision, err := c.Create(t.Context(), "sets", "race", []byte("0"))
	if err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			switch _, err := c.Put(t.Context(), "sets", "race", fmt.Appendf(nil, "%d", i), revision); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, catalog.ErrConflict):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers of one revision, want 1", won.Load())
	}
}
