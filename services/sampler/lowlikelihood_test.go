package sampler

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"pgregory.net/rapid"
)

// testBank is n embeddings around a common direction, of norms that are not 1.
func testBank(n, d int) matrix.Matrix {
	x := make([]float32, (n+1)*d)
	philox.Normals(x, philox.Key{Seed: 77, Purpose: "bank"})
	m := matrix.New(n, d)
	for i := range m.Data {
		m.Data[i] = x[i] + float32(1.5*x[n*d+i%d])
	}
	return m
}

func mustPrepare(t testing.TB, m Method, bank matrix.Matrix, p Params) Sampler {
	s, err := m.Prepare(context.Background(), Input{Bank: bank}, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func collect(t testing.TB, s Sampler, r Range) []Outlier {
	var out []Outlier
	err := s.Sample(context.Background(), r, func(o Outlier) error { out = append(out, o); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != r.Count {
		t.Fatalf("%d samples, want %d", len(out), r.Count)
	}
	return out
}

// Any range of samples equals that part of the whole, on any number of threads.
func TestRangesEqualTheWhole(t *testing.T) {
	p := Params{K: 5, Select: 8, Pick: 3, Noises: 20, Sigma: 0.3, Keep: 2, Seed: 4}
	s := mustPrepare(t, KNN{}, testBank(30, 9), p)
	whole := collect(t, s, Range{Class: 2, Count: 40})
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, 40).Draw(t, "from")
		count := rapid.IntRange(0, 40-from).Draw(t, "count")
		i := from
		err := s.Sample(context.Background(), Range{Class: 2, Offset: from, Count: count}, func(o Outlier) error {
			w := whole[i]
			if !slices.Equal(o.Embedding, w.Embedding) {
				t.Errorf("sample %d: other embedding", i)
			}
			o.Embedding, w.Embedding = nil, nil
			if o.Index != i || !equal(o, w) {
				t.Errorf("sample %d: %+v, in the whole %+v", i, o, w)
			}
			i++
			return nil
		})
		if err != nil || i != from+count {
			t.Errorf("[%d, %d+%d): stopped at %d, error %v", from, from, count, i, err)
		}
	})
}

func equal(a, b Outlier) bool {
	a.Embedding, b.Embedding = nil, nil
	return a.Class == b.Class && a.Index == b.Index && a.Round == b.Round && a.Source == b.Source && a.NoiseIndex == b.NoiseIndex &&
		a.Rank == b.Rank && a.KthDistance == b.KthDistance && a.SourceKthDistance == b.SourceKthDistance && a.CosineToSource == b.CosineToSource
}

func TestSeedsAndClassesDiffer(t *testing.T) {
	p := Params{K: 5, Select: 8, Pick: 3, Noises: 20, Sigma: 0.3, Keep: 2, Seed: 4}
	bank := testBank(30, 9)
	first := collect(t, mustPrepare(t, KNN{}, bank, p), Range{Class: 2, Count: 6})
	other := collect(t, mustPrepare(t, KNN{}, bank, p), Range{Class: 3, Count: 6})
	p.Seed++
	seeded := collect(t, mustPrepare(t, KNN{}, bank, p), Range{Class: 2, Count: 6})
	if slices.Equal(first[0].Embedding, other[0].Embedding) || slices.Equal(first[0].Embedding, seeded[0].Embedding) {
		t.Error("another class or seed draws the same")
	}
}

func TestSampleStops(t *testing.T) {
	p := Params{K: 5, Select: 8, Pick: 3, Noises: 20, Sigma: 0.3, Keep: 2}
	s := mustPrepare(t, KNN{}, testBank(30, 9), p)
	enough := errors.New("enough")
	n := 0
	err := s.Sample(t.Context(), Range{Count: 100}, func(Outlier) error {
		if n++; n == 7 {
			return enough
		}
		return nil
	})
	if err != enough || n != 7 {
		t.Errorf("%d samples, error %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	err = s.Sample(ctx, Range{Count: 1000}, func(Outlier) error {
		if n++; n == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n > 6 {
		t.Errorf("cancelled in round 0: %d samples, error %v", n, err)
	}
	for _, r := range []Range{{Offset: -1}, {Count: -1}, {Offset: math.MaxInt, Count: 1}, {Count: 1, Anchor: make([]float32, 3)}} {
		if err := s.Sample(t.Context(), r, func(Outlier) error { return nil }); err == nil {
			t.Errorf("%+v: no error", r)
		}
	}
}
