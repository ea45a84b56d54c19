package matrix

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/philox"
	"pgregory.net/rapid"
)

func random(rows, cols int, seed uint64) Matrix {
	m := New(rows, cols)
	philox.Normals(m.Data, philox.Key{Seed: seed, Purpose: "test"})
	return m
}

// The product is right, and its elements have the same bits for any number of
// workers and for any part of the rows.
func TestMulT(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.IntRange(1, 140).Draw(t, "m")
		n := rapid.IntRange(1, 140).Draw(t, "n")
		k := rapid.IntRange(1, 70).Draw(t, "k")
		a, b := random(m, k, 1), random(n, k, 2)
		pa, pb := Pack(a), Pack(b)
		got := New(m, n)
		MulT(got, pa, pb, 1)
		for i := range m {
			for j := range n {
				want := Dot(a.Row(i), b.Row(j))
				// k products, each rounded: the usual bound k·eps·|a||b|.
				bound := float64(k) * 0x1p-24 * Norm(a.Row(i)) * Norm(b.Row(j))
				if d := math.Abs(float64(got.Row(i)[j]) - want); d > bound {
					t.Fatalf("[%d, %d] is off by %g, bound %g", i, j, d, bound)
				}
			}
		}
		again := New(m, n)
		MulT(again, pa, pb, 3)
		if !slices.Equal(again.Data, got.Data) {
			t.Fatal("three workers give other bits")
		}
		from := rapid.IntRange(0, m-1).Draw(t, "from")
		part := New(1, n)
		MulT(part, pa.Slice(from, from+1), pb, 0)
		if !slices.Equal(part.Data, got.Row(from)) {
			t.Fatal("a single row gives other bits")
		}
	})
}

func TestNormalised(t *testing.T) {
	m, err := random(20, 33, 3).Normalised()
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Rows {
		if d := math.Abs(Norm(m.Row(i)) - 1); d > 1e-7 {
			t.Errorf("norm of row %d is off by %g", i, d)
		}
	}
	for _, c := range []struct {
		value float32
		want  string
	}{{0, "row 1 is zero"}, {float32(math.NaN()), "row 1, column 0 is NaN"}, {float32(math.Inf(1)), "row 1, column 0 is +Inf"}} {
		bad := Matrix{Rows: 2, Cols: 1, Data: []float32{1, c.value}}
		if _, err := bad.Normalised(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestOf(t *testing.T) {
	if m, err := Of(make([]float32, 6), 3); err != nil || m.Rows != 2 {
		t.Errorf("Of 6 by 3: %+v, %v", m, err)
	}
	for _, cols := range []int{-1, 0, 4} {
		if _, err := Of(make([]float32, 6), cols); err == nil {
			t.Errorf("6 values as rows of %d: no error", cols)
		}
	}
}

func BenchmarkMulT(b *testing.B) {
	x, y := Pack(random(1500, 768, 1)), Pack(random(500, 768, 2))
	dst := New(1500, 500)
	for b.Loop() {
		MulT(dst, x, y, 0)
	}
	b.ReportMetric(2*1500*500*768*float64(b.N)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
}
