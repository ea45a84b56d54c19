package infer

import (
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/train"
)

// side of the pictures in these tests, in pixels.
const side = 8

// exported is a small untrained classifier of three classes, as the mesh exports it.
func exported(t *testing.T, seed uint64) []byte {
	t.Helper()
	tr, err := train.New(train.Spec{
		Network: train.ResNet9(2), Head: train.Classifier{N: 3, Scale: 0.125}, Height: side, Width: side, Batch: 2, Seed: seed,
	}, train.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	model, err := tr.Inference(nil)
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func open(t *testing.T, model []byte) *Model {
	t.Helper()
	m, err := Open(model, onnx.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// noisy are n pictures of noise.
func noisy(t *testing.T, n, size int) *dataset.Dataset {
	t.Helper()
	words := make([]uint32, n*size*size*3)
	philox.Uint32s(words, philox.Key{Seed: 1, Purpose: "infer.test"})
	pixels := make([]uint8, len(words))
	for i, w := range words {
		pixels[i] = uint8(w)
	}
	d, err := dataset.FromPixels("noise", []string{"a"}, size, pixels, make([]int32, n), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestModelsThatTakeNoPicturesAreRefused(t *testing.T) {
	decoder, err := os.ReadFile("../diffusion/testdata/tiny/vae_decoder/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(decoder, onnx.Config{Threads: 1}); err == nil || !strings.Contains(err.Error(), `want one float32 "image" [N, 3, S, S]`) {
		t.Errorf("a VAE decoder: %v", err)
	}
	if _, err := Open([]byte("no model"), onnx.Config{Threads: 1}); err == nil {
		t.Error("text was opened as a model")
	}
}

// TestBatchesDoNotChangeResults runs more pictures than fit into one batch, all at once, as a dataset and one by one.
func TestBatchesDoNotChangeResults(t *testing.T) {
	const n = 2*batch + 45
	m, ds := open(t, exported(t, 1)), noisy(t, n, side)
	var reports []int
	got, err := m.Dataset(t.Context(), ds, func(done int) { reports = append(reports, done) }, "logits", "energy")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(reports, []int{batch, 2 * batch, n}) || len(got["logits"]) != 3*n || len(got["energy"]) != n || len(got) != 2 {
		t.Fatalf("reports %v, %d logits, %d energies", reports, len(got["logits"]), len(got["energy"]))
	}
	images := make([]float32, n*3*side*side)
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	ds.Float32(images, all...)
	atOnce, err := m.Run(t.Context(), images, "logits", "energy")
	if err != nil || !slices.Equal(atOnce["logits"], got["logits"]) || !slices.Equal(atOnce["energy"], got["energy"]) {
		t.Errorf("all at once the results differ, %v", err)
	}
	each := 3 * side * side
	for _, i := range []int{0, batch - 1, batch, n - 1} {
		one, err := m.Run(t.Context(), images[i*each:(i+1)*each], "logits")
		if err != nil {
			t.Fatal(err)
		}
		for c, v := range one["logits"] {
			// Another batch may be summed in another order: rounding of values of about one.
			if want := got["logits"][3*i+c]; math.Abs(float64(v-want)) > 1e-5 {
				t.Errorf("picture %d alone has logit %g, in its batch %g", i, v, want)
			}
		}
	}
}

func TestWrongPicturesAreRefused(t *testing.T) {
	m := open(t, exported(t, 1))
	if m.Size() != side {
		t.Fatalf("size %d", m.Size())
	}
	for _, n := range []int{0, 1, 3*side*side - 1, 3*side*side + 1} {
		if _, err := m.Run(t.Context(), make([]float32, n), "logits"); err == nil {
			t.Errorf("%d values were run", n)
		}
	}
	if _, err := m.Dataset(t.Context(), noisy(t, 2, 16), nil, "logits"); err == nil || !strings.Contains(err.Error(), "16 pixels") {
		t.Errorf("pictures of another size: %v", err)
	}
	if _, err := m.Run(t.Context(), make([]float32, 3*side*side), "ood_score"); err == nil {
		t.Error("an output that the model does not have was computed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Dataset(ctx, noisy(t, 2, side), nil, "logits"); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: %v", err)
	}
}

// kept stores models as blobs.
func kept(t *testing.T, n int) (artifact.Store, []artifact.Ref) {
	t.Helper()
	blobs, err := artifact.NewFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var refs []artifact.Ref
	for i := range n {
		ref, err := artifact.PutBytes(t.Context(), blobs, exported(t, uint64(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	return blobs, refs
}

func run(m *Model) error {
	_, err := m.Run(context.Background(), make([]float32, 3*side*side), "logits")
	return err
}

func (c *Cache) refs() []artifact.Ref {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []artifact.Ref
	for _, m := range c.loaded {
		out = append(out, m.ref)
	}
	return out
}

func TestCacheKeepsTheModelsUsedLast(t *testing.T) {
	blobs, refs := kept(t, 3)
	c := NewCache(2, onnx.Config{Threads: 1}, blobs)
	defer c.Close()
	for _, i := range []int{0, 1, 0, 2} {
		if err := c.Use(t.Context(), refs[i], run); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.refs(); !slices.Equal(got, []artifact.Ref{refs[0], refs[2]}) {
		t.Errorf("kept are %v of %v", got, refs)
	}
	if err := c.Use(t.Context(), artifact.RefOf([]byte("none")), run); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("a model that is not there: %v", err)
	}
	text, err := artifact.PutBytes(t.Context(), blobs, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Use(t.Context(), text, run); err == nil || !strings.Contains(err.Error(), text.String()) {
		t.Errorf("a blob that is no model: %v", err)
	}
	own := errors.New("own")
	if err := c.Use(t.Context(), refs[0], func(*Model) error { return own }); !errors.Is(err, own) {
		t.Errorf("the error of the user became %v", err)
	}
}

// TestCacheDoesNotFreeAModelInUse has more users at once than the cache keeps, and closes it below them.
func TestCacheDoesNotFreeAModelInUse(t *testing.T) {
	blobs, refs := kept(t, 3)
	c := NewCache(1, onnx.Config{Threads: 1}, blobs)
	err := c.Use(t.Context(), refs[0], func(first *Model) error {
		err := c.Use(t.Context(), refs[1], func(second *Model) error {
			return errors.Join(run(second), run(first), c.Use(t.Context(), refs[0], func(same *Model) error {
				if same != first {
					t.Error("the model in use was loaded again")
				}
				return run(same)
			}))
		})
		c.Close()
		return errors.Join(err, run(first))
	})
	if err != nil {
		t.Error(err)
	}
	if left := c.refs(); len(left) != 0 {
		t.Errorf("after Close and the last user there are %v", left)
	}

	c = NewCache(1, onnx.Config{Threads: 1}, blobs)
	var users sync.WaitGroup
	for i := range 12 {
		users.Go(func() {
			if err := c.Use(context.Background(), refs[i%3], run); err != nil {
				t.Error(err)
			}
		})
	}
	users.Wait()
	if left := c.refs(); len(left) != 1 {
		t.Errorf("when nobody uses any, %d are kept, want 1", len(left))
	}
	c.Close()
}
