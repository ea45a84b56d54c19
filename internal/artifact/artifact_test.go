package artifact_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dreamood/dreamood/internal/artifact"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// conform holds a Store to its contract. Every implementation passes it.
func conform(t *testing.T, store artifact.Store) {
	t.Run("content", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			data := rapid.SliceOfN(rapid.Byte(), 0, 4096).Draw(t, "data")
			ref, err := artifact.PutBytes(context.Background(), store, data)
			if err != nil || ref != artifact.RefOf(data) {
				t.Fatalf("put: %s, %v", ref, err)
			}
			back, err := artifact.ReadAll(context.Background(), store, ref, 4096)
			if err != nil || !bytes.Equal(back, data) {
				t.Fatalf("read back %d bytes of %d: %v", len(back), len(data), err)
			}
		})
	})
	t.Run("stream", func(t *testing.T) {
		data := bytes.Repeat([]byte("0123456789abcde\n"), 200_000) // 3.2 MB, more than is held in memory
		ref, err := store.Put(t.Context(), io.MultiReader(bytes.NewReader(data)))
		if err != nil || ref != artifact.RefOf(data) {
			t.Fatalf("put: %s, %v", ref, err)
		}
		if size, err := store.Stat(t.Context(), ref); err != nil || size != int64(len(data)) {
			t.Errorf("stat: %d, %v", size, err)
		}
		if _, err := artifact.ReadAll(t.Context(), store, ref, 1000); !errors.Is(err, artifact.ErrTooLarge) {
			t.Errorf("read over the limit: %v", err)
		}
	})
	t.Run("from the middle", func(t *testing.T) {
		r := strings.NewReader("skip this dream")
		if _, err := r.Seek(10, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if ref, err := store.Put(t.Context(), r); err != nil || ref != artifact.RefOf([]byte("dream")) {
			t.Errorf("put: %s, %v", ref, err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		ref := artifact.RefOf([]byte("never stored"))
		if _, err := store.Open(t.Context(), ref); !errors.Is(err, artifact.ErrNotFound) || !strings.Contains(err.Error(), string(ref)) {
			t.Errorf("open: %v", err)
		}
		if _, err := store.Stat(t.Context(), ref); !errors.Is(err, artifact.ErrNotFound) {
			t.Errorf("stat: %v", err)
		}
	})
	t.Run("names that are none", func(t *testing.T) {
		for _, ref := range []artifact.Ref{"", "sha256:", "../../etc/passwd", "sha256:../../../../../../../../../../../../../../../../../../../../../../etc"} {
			if _, err := store.Open(t.Context(), ref); err == nil {
				t.Errorf("opened %q", ref)
			}
		}
	})
	t.Run("broken source", func(t *testing.T) {
		broken := io.MultiReader(bytes.NewReader(make([]byte, 2<<20)), errReader{})
		if ref, err := store.Put(t.Context(), broken); !errors.Is(err, errSource) {
			t.Errorf("put: %s, %v", ref, err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := artifact.PutBytes(ctx, store, []byte("too late")); !errors.Is(err, context.Canceled) {
			t.Errorf("put: %v", err)
		}
	})
	t.Run("many writers of one blob", func(t *testing.T) {
		data := bytes.Repeat([]byte("same"), 50_000)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if _, err := store.Put(t.Context(), io.MultiReader(bytes.NewReader(data))); err != nil {
					t.Error(err)
				}
				if back, err := artifact.ReadAll(t.Context(), store, artifact.RefOf(data), 1<<20); err != nil || !bytes.Equal(back, data) {
					t.Errorf("read beside a writer: %d bytes, %v", len(back), err)
				}
			})
		}
		group.Wait()
	})
}

var errSource = errors.New("the source broke")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errSource }

func TestParse(t *testing.T) {
	good := string(artifact.RefOf(nil))
	if good != "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" { // FIPS 180-4, empty message
		t.Errorf("name of nothing: %s", good)
	}
	if ref, err := artifact.Parse(good); err != nil || string(ref) != good {
		t.Errorf("%s, %v", ref, err)
	}
	for _, bad := range []string{"", good[7:], strings.ToUpper(good), good + "0", good[:70], "md5:" + good[7:], strings.Replace(good, "e3", "g3", 1)} {
		if _, err := artifact.Parse(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}
