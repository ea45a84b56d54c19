package sampler

import (
	"cmp"
	"context"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"pgregory.net/rapid"
)

// slowDistance is the K-th distance of a candidate by its definition in exact.go:
// all distances in float64, sorted.
func slowDistance(c *prepared, class uint32, round, source, noise int) float64 {
	x, b, g := c.bank, c.bank.Row(source), make([]float32, c.bank.Cols)
	c.noise(g, class, round, noise)
	norm := math.Sqrt(matrix.Dot(b, b) + 2*matrix.Dot(b, g) + matrix.Dot(g, g))
	d := make([]float64, x.Rows)
	for j := range d {
		d[j] = 1 + matrix.Dot(x.Row(j), x.Row(j)) - 2*((matrix.Dot(x.Row(j), b)+matrix.Dot(x.Row(j), g))/norm)
	}
	slices.Sort(d)
	return d[c.params.K-1]
}

// slowBoundary is the boundary by its definition.
func slowBoundary(c *prepared) (kth []float64, selected []int) {
	x := c.bank
	for i := range x.Rows {
		d := make([]float64, x.Rows)
		for j := range d {
			d[j] = matrix.Dot(x.Row(i), x.Row(i)) + matrix.Dot(x.Row(j), x.Row(j)) - 2*matrix.Dot(x.Row(i), x.Row(j))
		}
		slices.Sort(d)
		kth, selected = append(kth, d[c.params.K-1]), append(selected, i)
	}
	slices.SortStableFunc(selected, func(a, b int) int { return c.compare(kth[a], kth[b]) })
	return kth, selected[:c.params.Select]
}

// compare puts the better distance first.
func (c *prepared) compare(a, b float64) int {
	if c.direction == nearest {
		return cmp.Compare(a, b)
	}
	return cmp.Compare(b, a)
}

// slowRound keeps the best of all candidates of every group, by a stable sort.
func slowRound(c *prepared, class uint32, round int) [][]candidate {
	p, points := c.params, c.picked(class, round)
	distance := make([]float64, p.Pick*p.Noises) // point after point
	for f := range distance {
		distance[f] = slowDistance(c, class, round, points[f/p.Noises], f%p.Noises)
	}
	out := make([][]candidate, p.Pick)
	for i := range out {
		var group []int
		for f := range distance {
			if c.scrambled() && f%p.Pick == i || !c.scrambled() && f/p.Noises == i {
				group = append(group, f)
			}
		}
		slices.SortStableFunc(group, func(a, b int) int { return c.compare(distance[a], distance[b]) })
		for _, f := range group[:p.Keep] {
			if c.scrambled() {
				// The published code: row f/Pick of column i stands for number i·Noises + f/Pick;
				// with one kept per point, of column 0.
				row := f / p.Pick
				if f = i*p.Noises + row; p.Keep == 1 {
					f = row
				}
			}
			out[i] = append(out[i], candidate{source: points[f/p.Noises], noise: f % p.Noises, distance: distance[f]})
		}
	}
	return out
}

// anyBank draws a bank: scattered, or with many rows that are equal.
func anyBank(t *rapid.T) matrix.Matrix {
	n, dim := rapid.IntRange(2, 70).Draw(t, "n"), rapid.IntRange(1, 40).Draw(t, "d")
	bank := testBank(n, dim)
	if rapid.Bool().Draw(t, "duplicates") {
		different := rapid.IntRange(1, n).Draw(t, "different")
		for i := different; i < n; i++ {
			copy(bank.Row(i), bank.Row(i%different))
		}
	}
	if rapid.Bool().Draw(t, "unit") {
		unit, err := bank.Normalised()
		if err != nil {
			t.Fatal(err)
		}
		return unit
	}
	return bank
}

// anyParams draws parameters that fit a bank of n, from sigmas that leave nothing
// for float32 to see to ones that leave nothing of the source.
func anyParams(t *rapid.T, n int) Params {
	p := Params{
		K:      rapid.OneOf(rapid.Just(1), rapid.Just(n), rapid.IntRange(1, n)).Draw(t, "k"),
		Select: rapid.IntRange(1, n).Draw(t, "select"), Noises: rapid.IntRange(1, 60).Draw(t, "noises"),
		Sigma: math.Pow(10, rapid.Float64Range(-12, 1.5).Draw(t, "log sigma")), Seed: rapid.Uint64().Draw(t, "seed"),
		Mode: rapid.SampledFrom([]string{"", ModePaper, ModeReference}).Draw(t, "mode"),
	}
	p.Pick = rapid.IntRange(1, min(p.Select, 6)).Draw(t, "pick")
	p.Keep = rapid.IntRange(1, min(p.Noises, 3)).Draw(t, "keep")
	return p
}

// What is kept, its order and its distances are those of the definition, bit for
// bit: in every mode and direction, for any part of a round and any portions.
func TestRoundIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bank := anyBank(t)
		p := anyParams(t, bank.Rows)
		s, err := prepare(context.Background(), Input{Bank: bank}, p, direction(rapid.Bool().Draw(t, "inward")))
		if err != nil {
			t.Fatal(err)
		}
		c := s.(*prepared)
		kth, selected := slowBoundary(c)
		for i, d := range kth {
			if c.boundary.KthDistances[i] != float32(max(0, d)) {
				t.Fatalf("row %d: K-th distance %v, by definition %v", i, c.boundary.KthDistances[i], d)
			}
		}
		if !slices.Equal(c.boundary.Selected, selected) {
			t.Fatalf("selected %v, by definition %v", c.boundary.Selected, selected)
		}
		room := c.newScratch()
		room.points = room.points.Slice(0, rapid.IntRange(1, p.Pick).Draw(t, "points at once"))
		room.noises = room.noises.Slice(0, rapid.IntRange(1, p.Noises).Draw(t, "noises at once"))
		c.bank.striped = rapid.Bool().Draw(t, "striped")
		from := rapid.IntRange(0, p.Pick-1).Draw(t, "from")
		to := rapid.IntRange(from+1, p.Pick).Draw(t, "to")
		kept, err := c.round(context.Background(), room, 1, 5, from, to)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range slowRound(c, 1, 5)[from:to] {
			for rank, w := range want {
				got := kept[i][rank]
				if got.order = 0; got != w {
					t.Fatalf("group %d, rank %d: %+v, by definition %+v", from+i, rank, got, w)
				}
			}
		}
	})
}

// At the sizes of a real class few candidates are left to float64.
func TestFewAreDecidedInFloat64(t *testing.T) {
	p := KNN{}.Defaults()
	p.Noises, p.Pick = 300, 10
	c := mustPrepare(t, KNN{}, testBank(500, PaperDim), p).(*prepared)
	s, points := c.newScratch(), c.picked(0, 0)
	all, _, err := c.contests(t.Context(), s, 0, 0, points, 0, p.Pick)
	if err != nil {
		t.Fatal(err)
	}
	contenders := 0
	for _, contest := range all {
		contenders += len(contest.contenders)
	}
	if contenders > 2*p.Pick*p.Keep {
		t.Errorf("%d contenders for %d places", contenders, p.Pick*p.Keep)
	}
	kept, err := c.round(t.Context(), s, 0, 0, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, source := range points[:3] {
		best := make([]float64, p.Noises)
		for g := range best {
			best[g] = slowDistance(c, 0, 0, source, g)
		}
		for rank, k := range kept[i] {
			if k.distance != best[k.noise] || k.distance != slices.Sorted(slices.Values(best))[p.Noises-1-rank] {
				t.Errorf("point %d, rank %d: noise %d at %v", i, rank, k.noise, k.distance)
			}
		}
	}
	t.Logf("%d contenders for %d places", contenders, p.Pick*p.Keep)
}

// The float32 sums stay within the bounds that exact.go derives.
func TestMarginHolds(t *testing.T) {
	c := mustPrepare(t, KNN{}, testBank(200, 333), Params{K: 1, Select: 20, Pick: 20, Noises: 50, Keep: 1, Sigma: 0.3}).(*prepared)
	worst, n := 0.0, 0
	s := c.newScratch()
	for g := range s.bounds {
		s.bounds[g] = c.noise(s.noises.Row(g), 0, 0, g)
	}
	points := c.picked(0, 0)
	for i, row := range points {
		copy(s.points.Row(i), c.bank.Row(row))
	}
	toPoints, toNoises := c.bank.product(s.toPoints, s.points), c.bank.product(s.toNoises, s.noises)
	for i, row := range points {
		for g, bounds := range s.bounds {
			for j := range c.bank.Rows {
				exact := matrix.Dot(c.bank.Row(j), c.bank.Row(row)) + matrix.Dot(c.bank.Row(j), s.noises.Row(g))
				worst = max(worst, math.Abs(float64(toPoints.Row(i)[j]+toNoises.Row(g)[j])-exact)/bounds.margin)
				n++
			}
		}
	}
	if worst > 1 {
		t.Errorf("an error of %v margins", worst)
	}
	t.Logf("%d sums are within %.3f of the margin", n, worst)
}

// A large bank, whose products are made tile by tile, gives what a small one
// does, and equal blocks on any number of threads.
func TestTiledProducts(t *testing.T) {
	p := Params{K: 40, Select: 20, Pick: 4, Noises: 30, Keep: 2, Sigma: 0.2, Seed: 3}
	bank := testBank(tileRows+100, 6)
	whole := mustPrepare(t, KNN{}, bank, p)
	want := collect(t, whole, Range{Count: 16})
	tiled := whole.(*prepared)
	tiled.bank.right, tiled.bank.striped = nil, true
	again, err := findBoundary(t.Context(), tiled.bank, p, farthest)
	if err != nil || !slices.Equal(again.KthDistances, tiled.boundary.KthDistances) || !slices.Equal(again.Selected, tiled.boundary.Selected) {
		t.Errorf("another boundary, error %v", err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, threads := range []int{1, 3, 16} {
		runtime.GOMAXPROCS(threads)
		for i, o := range collect(t, tiled, Range{Count: 16}) {
			if !equal(o, want[i]) || !slices.Equal(o.Embedding, want[i].Embedding) {
				t.Fatalf("%d threads, sample %d: %+v, want %+v", threads, i, o, want[i])
			}
		}
	}
}

// A bank of unit rows is used without a copy; any other is left as it is.
func TestUnitBank(t *testing.T) {
	raw := testBank(20, 7)
	before := slices.Clone(raw.Data)
	made, err := toUnit(raw)
	if err != nil || !slices.Equal(raw.Data, before) {
		t.Fatalf("the input has changed, error %v", err)
	}
	for i := range made.Rows {
		if off := math.Abs(matrix.Norm(made.Row(i)) - 1); off > 1e-7 {
			t.Errorf("norm of row %d is off by %g", i, off)
		}
	}
	again, err := toUnit(made.Matrix)
	if err != nil || &again.Data[0] != &made.Data[0] {
		t.Errorf("unit rows were copied, error %v", err)
	}
	made.Row(3)[0] += 1e-4
	if again, err = toUnit(made.Matrix); err != nil || &again.Data[0] == &made.Data[0] {
		t.Errorf("a row of another norm was not normalised, error %v", err)
	}
}

// One round with the paper's sizes: 50 points x 1,500 noises, 500 x 768.
func BenchmarkRound(b *testing.B) {
	c := mustPrepare(b, KNN{}, testBank(500, PaperDim), KNN{}.Defaults()).(*prepared)
	s, at := c.newScratch(), 0
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			at++
			if _, err := c.round(context.Background(), s, 0, at, 0, c.params.Pick); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("noise", func(b *testing.B) {
		for b.Loop() {
			matrix.Each(s.noises.Rows, 0, func(g int) { s.bounds[g] = c.noise(s.noises.Row(g), 0, 1, g) })
		}
	})
	b.Run("product", func(b *testing.B) {
		for b.Loop() {
			c.bank.product(s.toNoises, s.noises)
		}
	})
	b.Run("sample", func(b *testing.B) {
		for b.Loop() {
			collect(b, c, Range{Offset: 100 * at, Count: 100})
			at++
		}
	})
}
