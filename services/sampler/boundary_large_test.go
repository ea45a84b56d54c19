package sampler

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
)

// clustered is a bank [n, dim] of some centres with rows at different distances, a few far out and some of them equal.
func clustered(n, dim, centres int, seed uint64) matrix.Matrix {
	m, around := matrix.New(n, dim), matrix.New(centres, dim)
	philox.Normals(m.Data, philox.Key{Seed: seed, Purpose: "test.rows"})
	philox.Normals(around.Data, philox.Key{Seed: seed, Purpose: "test.centres"})
	for i := range n {
		row := m.Row(i)
		spread := 0.1 + float32(i%13)/26
		for j := range row {
			row[j] = around.Row(i % centres)[j] + spread*row[j]
		}
		if i%10 == 9 {
			copy(row, m.Row(i/2))
		}
	}
	return m
}

// TestFarthestRowsAreThoseOfAllDistances: the bounds decide what is looked at, never what is found.
func TestFarthestRowsAreThoseOfAllDistances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 400).Draw(t, "n")
		bank, err := toUnit(clustered(n, rapid.IntRange(2, 40).Draw(t, "dim"), rapid.IntRange(1, 20).Draw(t, "centres"), rapid.Uint64().Draw(t, "seed")))
		if err != nil {
			t.Fatal(err)
		}
		p := Params{K: rapid.IntRange(1, n).Draw(t, "k"), Select: rapid.IntRange(1, n).Draw(t, "select")}
		all, err := wholeBoundary(t.Context(), bank, p, farthest)
		if err != nil {
			t.Fatal(err)
		}
		rows, kth, err := bank.farthestRows(t.Context(), p.K, p.Select)
		if err != nil || !slices.Equal(rows, all.Selected) || !slices.Equal(rounded(kth), all.SelectedDistances) {
			t.Fatalf("rows %v at %v, error %v; want %v at %v", rows, kth, err, all.Selected, all.SelectedDistances)
		}
	})
}

// TestUpperBoundsHoldAndPrune: no bound is below the exact distance, and most rows of a clustered bank need no look at
// the whole of it.
func TestUpperBoundsHoldAndPrune(t *testing.T) {
	const n, k, sel = 6000, 20, 50
	bank, err := toUnit(clustered(n, 24, 60, 3))
	if err != nil {
		t.Fatal(err)
	}
	c, err := bank.cells(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sorted := slices.Sorted(slices.Values(c.rows)); !slices.Equal(sorted, evenly(n, n)) {
		t.Fatal("the cells are no partition")
	}
	bounds, err := bank.upperBounds(t.Context(), c, k)
	if err != nil {
		t.Fatal(err)
	}
	kth, err := bank.kthOfRows(t.Context(), evenly(n, n), k)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range kth {
		if float64(bounds[i]) < d {
			t.Fatalf("row %d: bound %v below %v", i, bounds[i], d)
		}
	}
	threshold := slices.SortedFunc(slices.Values(kth), func(a, b float64) int { return cmp.Compare(b, a) })[sel-1]
	look := 0
	for _, b := range bounds {
		if float64(b) >= threshold {
			look++
		}
	}
	if look > n/10 {
		t.Errorf("%d of %d rows have a bound above the threshold", look, n)
	}
}

// TestSurvivorsAreThoseThatMayReach: no row at the floor or above is put out, on any side of a tile's border, and of
// the rest only those that rounding leaves open stay.
func TestSurvivorsAreThoseThatMayReach(t *testing.T) {
	const n, k = tileRows + 700, 30
	bank, err := toUnit(clustered(n, 24, 60, 4))
	if err != nil {
		t.Fatal(err)
	}
	rows := evenly(n, 500)
	kth, err := bank.kthOfRows(t.Context(), rows, k)
	if err != nil {
		t.Fatal(err)
	}
	sorted := slices.Sorted(slices.Values(kth))
	for _, floor := range []float64{0, sorted[100], sorted[400], sorted[499], 5} {
		got, err := bank.survivors(t.Context(), rows, k, floor)
		if err != nil {
			t.Fatal(err)
		}
		var must, may []int
		for i, row := range rows {
			if kth[i] >= floor {
				must = append(must, row)
			}
			if kth[i] >= floor-1e-4 {
				may = append(may, row)
			}
		}
		for _, row := range must {
			if !slices.Contains(got, row) {
				t.Errorf("floor %v: row %d is out", floor, row)
			}
		}
		for _, row := range got {
			if !slices.Contains(may, row) {
				t.Errorf("floor %v: row %d stayed", floor, row)
			}
		}
		if !slices.IsSorted(got) {
			t.Errorf("floor %v: in another order", floor)
		}
	}
}

// TestLargeBankSamples goes through the method: a bank from largeRows on gives the boundary of all distances, and
// reports a sample of them.
func TestLargeBankSamples(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds of products")
	}
	bank := clustered(largeRows, 8, 200, 5)
	p := Params{K: 10, Select: 20, Pick: 20, Noises: 8, Sigma: 0.1, Keep: 1, Seed: 1}
	s := mustPrepare(t, KNN{}, bank, p)
	unit, err := toUnit(bank)
	if err != nil {
		t.Fatal(err)
	}
	all, err := wholeBoundary(t.Context(), unit, p, farthest)
	if err != nil {
		t.Fatal(err)
	}
	b := s.Boundary()
	if !slices.Equal(b.Selected, all.Selected) || !slices.Equal(b.SelectedDistances, all.SelectedDistances) || len(b.KthDistances) != sampledRows {
		t.Errorf("selected %v at %v and %d sampled distances; want %v at %v", b.Selected, b.SelectedDistances, len(b.KthDistances), all.Selected, all.SelectedDistances)
	}
	for i, row := range evenly(largeRows, sampledRows) {
		if b.KthDistances[i] != all.KthDistances[row] {
			t.Fatalf("row %d: %v, want %v", row, b.KthDistances[i], all.KthDistances[row])
		}
	}
	for _, o := range collect(t, s, Range{Count: 20}) {
		if o.SourceKthDistance != all.KthDistances[o.Source] {
			t.Errorf("source %d at %v, want %v", o.Source, o.SourceKthDistance, all.KthDistances[o.Source])
		}
	}
}
