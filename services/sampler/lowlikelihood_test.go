package sampler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"pgregory.net/rapid"
)

// testBank is n embeddings around a common direction, of norms that are not 1;
// tools/vectors/sampler.py builds the same.
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

// Against the plain NumPy version in float64: the same choices, and values
// within what float32 sums of a few hundred terms lose.
func TestAgainstNumPy(t *testing.T) {
	raw, err := os.ReadFile("testdata/sampler.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		N, D     int
		BankHead [][]float32 `json:"bank_head"`
		Cases    []struct {
			Method string
			Params struct {
				K, Select, Pick, Noises, Keep, Rounds int
				Sigma                                 float64
				Seed                                  uint64
				Cls                                   uint32
			}
			Kth      []float64
			Selected []int
			Samples  []struct {
				Round, Source, Noise, Rank int
				Kth                        float64
				SourceKth                  float64 `json:"source_kth"`
				Cosine                     float64
				Head                       []float64
			}
		}
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	bank := testBank(v.N, v.D)
	if !slices.Equal(bank.Row(1)[:4], v.BankHead[1]) {
		t.Fatalf("row 1 of the bank is %v, recorded %v", bank.Row(1)[:4], v.BankHead[1])
	}
	for _, c := range v.Cases {
		method, err := Lookup(c.Method)
		if err != nil {
			t.Fatal(err)
		}
		p := Params{K: c.Params.K, Select: c.Params.Select, Pick: c.Params.Pick, Noises: c.Params.Noises, Sigma: c.Params.Sigma, Keep: c.Params.Keep, Seed: c.Params.Seed}
		s := mustPrepare(t, method, bank, p)
		b := s.Boundary()
		var worst float64
		off := func(got float32, want float64) { worst = max(worst, math.Abs(float64(got)-want)) }
		for i, want := range c.Kth {
			off(b.KthDistances[i], want)
		}
		if !slices.Equal(b.Selected, c.Selected) {
			t.Errorf("%s: selected %v, want %v", c.Method, b.Selected, c.Selected)
		}
		anchor := bank.Row(0)
		got := collect(t, s, Range{Class: c.Params.Cls, Count: len(c.Samples), Anchor: anchor})
		for i, want := range c.Samples {
			o := got[i]
			if o.Index != i || o.Round != want.Round || o.Source != want.Source || o.NoiseIndex != want.Noise || o.Rank != want.Rank {
				t.Fatalf("%s: sample %d is (round %d, source %d, noise %d, rank %d), want %+v", c.Method, i, o.Round, o.Source, o.NoiseIndex, o.Rank, want)
			}
			off(o.KthDistance, want.Kth)
			off(o.SourceKthDistance, want.SourceKth)
			off(o.CosineToSource, want.Cosine)
			for j, h := range want.Head {
				off(o.Embedding[j], h)
			}
			off(float32(matrix.Norm(o.Embedding)), 1)
			off(o.CosineToAnchor, matrix.Dot(o.Embedding, anchor)/matrix.Norm(anchor))
		}
		if worst > 1e-6 {
			t.Errorf("%s: values are off by up to %g", c.Method, worst)
		}
		t.Logf("%s: %d samples, values within %.1e", c.Method, len(got), worst)
	}
}

// slow32 finds the candidates of a round without pruning, from the same float32
// sums: what the counting must leave unchanged.
func slow32(c *prepared, class uint32, round int, source int) []candidate {
	p := c.params
	start := matrix.NewPacked(1, c.unit.Cols)
	copy(start.Row(0), c.unit.Row(source))
	noises := matrix.NewPacked(p.Noises, c.unit.Cols)
	c.noise(noises, class, round, 0)
	x, g := matrix.New(1, c.unit.Rows), matrix.New(p.Noises, c.unit.Rows)
	matrix.MulT(x, start, c.packed, 1)
	matrix.MulT(g, noises, c.packed, 1)
	all := make([]candidate, p.Noises)
	for i := range all {
		row := g.Row(i)
		norm := float32(math.Sqrt(float64(x.Data[source]) + 2*float64(row[source]) + matrix.Dot(noises.Row(i), noises.Row(i))))
		sums := make([]float32, len(row))
		for j := range sums {
			sums[j] = x.Data[j] + row[j]
		}
		slices.Sort(sums)
		all[i] = candidate{source, i, sums[len(sums)-p.K] / norm}
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		if c.direction == nearest {
			return cmp.Compare(b.cosine, a.cosine)
		}
		return cmp.Compare(a.cosine, b.cosine)
	})
	return all[:p.Keep]
}

// slow64 is the K-th distances of all candidates of one point, by definition.
func slow64(c *prepared, class uint32, round int, source int) []float64 {
	noises := matrix.NewPacked(c.params.Noises, c.unit.Cols)
	c.noise(noises, class, round, 0)
	out := make([]float64, c.params.Noises)
	for g := range out {
		e := make([]float64, c.unit.Cols)
		var square float64
		for j, v := range c.unit.Row(source) {
			e[j] = float64(v) + float64(noises.Row(g)[j])
			square += e[j] * e[j]
		}
		d := make([]float64, c.unit.Rows)
		for i := range d {
			for j, v := range c.unit.Row(i) {
				x := e[j]/math.Sqrt(square) - float64(v)
				d[i] += x * x
			}
		}
		slices.Sort(d)
		out[g] = d[c.params.K-1]
	}
	return out
}

func TestAgainstSlowVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 80).Draw(t, "n")
		dim := rapid.IntRange(2, 24).Draw(t, "d")
		p := Params{
			K: rapid.IntRange(1, n).Draw(t, "k"), Select: rapid.IntRange(1, n).Draw(t, "select"),
			Noises: rapid.IntRange(1, 60).Draw(t, "noises"), Sigma: rapid.Float64Range(0.01, 1).Draw(t, "sigma"),
			Seed: rapid.Uint64().Draw(t, "seed"),
		}
		p.Pick = rapid.IntRange(1, min(p.Select, 6)).Draw(t, "pick")
		p.Keep = rapid.IntRange(1, min(p.Noises, 3)).Draw(t, "keep")
		d := direction(rapid.Bool().Draw(t, "inward"))
		s, err := prepare(context.Background(), Input{Bank: testBank(n, dim)}, p, d)
		if err != nil {
			t.Fatal(err)
		}
		c := s.(*prepared)
		points := c.picked(1, 5)
		kept, err := c.round(context.Background(), 1, 5, points)
		if err != nil {
			t.Fatal(err)
		}
		for i, source := range points {
			if want := slow32(c, 1, 5, source); !slices.Equal(kept[i], want) {
				t.Fatalf("source %d: kept %+v, without pruning %+v", source, kept[i], want)
			}
			truth := slow64(c, 1, 5, source)
			sorted := slices.Sorted(slices.Values(truth))
			for rank, k := range kept[i] {
				best := sorted[len(sorted)-1-rank]
				if d == nearest {
					best = sorted[rank]
				}
				// Where float64 would rank another candidate here,
				// the two are equal to float32.
				if math.Abs(truth[k.noise]-best) > 2e-6 {
					t.Fatalf("source %d, rank %d: noise %d has %v, the best %v", source, rank, k.noise, truth[k.noise], best)
				}
			}
		}
	})
}

// With the sizes of a real class the pairs are those of float64 exactly.
func TestPairsAtRealSize(t *testing.T) {
	p := Params{K: 60, Select: 10, Pick: 4, Noises: 300, Sigma: SigmaForCosine(0.458, 64), Keep: 2, Seed: 2}
	c := mustPrepare(t, KNN{}, testBank(100, 64), p).(*prepared)
	kept, err := c.round(t.Context(), 0, 0, c.picked(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, ks := range kept {
		truth := slow64(c, 0, 0, ks[0].source)
		order := make([]int, len(truth))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(truth[b], truth[a]) })
		if ks[0].noise != order[0] || ks[1].noise != order[1] {
			t.Errorf("source %d: noises %d and %d, want %v", ks[0].source, ks[0].noise, ks[1].noise, order[:2])
		}
	}
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

func TestReaches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		a, b := make([]float32, n), make([]float32, n)
		philox.Normals(a, philox.Key{Seed: rapid.Uint64().Draw(t, "seed")})
		for i := range a {
			a[i] = float32(math.Round(float64(a[i]))) // many ties with the threshold
		}
		threshold := float32(rapid.IntRange(-2, 2).Draw(t, "t"))
		k := rapid.IntRange(1, n).Draw(t, "k")
		count := 0
		for i := range a {
			if a[i]+b[i] >= threshold {
				count++
			}
		}
		if got := reaches(a, b, threshold, k); got != (count >= k) {
			t.Fatalf("%d reach it, k is %d: %v", count, k, got)
		}
	})
}

func TestKthLargestAgreesWithIndex(t *testing.T) {
	bank, err := testBank(50, 8).Normalised()
	if err != nil {
		t.Fatal(err)
	}
	kth, err := knn.KthDistances(t.Context(), bank, bank, 7)
	if err != nil {
		t.Fatal(err)
	}
	for i := range kth {
		dots := make([]float32, bank.Rows)
		for j := range dots {
			dots[j] = float32(matrix.Dot(bank.Row(i), bank.Row(j)))
		}
		if d := math.Abs(float64(2 - 2*knn.KthLargest(dots, 7) - kth[i])); d > 1e-6 {
			t.Errorf("row %d: cosine and distance disagree by %g", i, d)
		}
	}
}

// One round with the paper's sizes: 50 points x 1,500 noises, 500 x 768.
func BenchmarkRound(b *testing.B) {
	c := mustPrepare(b, KNN{}, testBank(500, 768), KNN{}.Defaults()).(*prepared)
	points := c.picked(0, 0)
	for i := 0; b.Loop(); i++ {
		if _, err := c.round(context.Background(), 0, i, points); err != nil {
			b.Fatal(err)
		}
	}
}
