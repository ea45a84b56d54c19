package matrix

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"testing"

	"github.com/dreamood/dreamood/internal/simd"
	"pgregory.net/rapid"
)

// The product of every kernel is right, and its elements have the same bits for
// any number of workers and for any part of the rows of either side.
func TestMulT(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.IntRange(1, 140).Draw(t, "m")
		n := rapid.IntRange(1, 140).Draw(t, "n")
		k := rapid.OneOf(rapid.IntRange(1, 70), rapid.SampledFrom([]int{depth - 1, depth, depth + 1, 2*depth + 5})).Draw(t, "k")
		a, b := random(m, k, 1), random(n, k, 2)
		pa, pb := Pack(a), Pack(b)
		from := rapid.IntRange(0, m-1).Draw(t, "from")
		first := rapid.IntRange(0, (n-1)/Align).Draw(t, "first") * Align
		last := min(n, first+Align)
		want := inFloat64(a, b)
		for _, set := range simd.Levels() {
			right := packRight(set, pb, 2)
			got := New(m, n)
			MulRight(got, pa, right, 1)
			near(t, set, got, want, a, b)
			again := New(m, n)
			MulRight(again, pa, right, 3)
			if !slices.Equal(again.Data, got.Data) {
				t.Fatalf("%s: three workers give other bits", set)
			}
			row := New(1, n)
			MulRight(row, pa.Slice(from, from+1), right, 0)
			if !slices.Equal(row.Data, got.Row(from)) {
				t.Fatalf("%s: a single row gives other bits", set)
			}
			part := New(m, last-first)
			MulRight(part, pa, right.Slice(first, last), 1)
			for i := range m {
				if !slices.Equal(part.Row(i), got.Row(i)[first:last]) {
					t.Fatalf("%s: columns [%d, %d) alone have other bits", set, first, last)
				}
			}
		}
		packing, packed := New(m, n), New(m, n)
		MulT(packing, pa, pb, 0)
		MulRight(packed, pa, PackRight(pb, 0), 0)
		if !slices.Equal(packing.Data, packed.Data) {
			t.Fatal("packing in advance gives other bits")
		}
	})
}

// inFloat64 is the product by its definition.
func inFloat64(a, b Matrix) [][]float64 {
	c := make([][]float64, a.Rows)
	for i := range c {
		for j := range b.Rows {
			c[i] = append(c[i], Dot(a.Row(i), b.Row(j)))
		}
	}
	return c
}

func near(t *rapid.T, set simd.Set, got Matrix, want [][]float64, a, b Matrix) {
	norms := make([]float64, b.Rows)
	for j := range norms {
		norms[j] = Norm(b.Row(j))
	}
	for i, row := range want {
		// k products, each rounded: the usual bound k·eps·|a||b|.
		eps := float64(a.Cols) * 0x1p-24 * Norm(a.Row(i))
		for j, w := range row {
			if d := math.Abs(float64(got.Row(i)[j]) - w); d > eps*norms[j] {
				t.Fatalf("%s: [%d, %d] is off by %g, bound %g", set, i, j, d, eps*norms[j])
			}
		}
	}
}

// Kernels that fuse give products of the same bits on any architecture, and those
// that round each product and each sum give others: two digests are all there are.
func TestLevelsAgreeOnTheBits(t *testing.T) {
	const fused, rounded = "980ba5b47e9d87bd", "64b4e8c45d0c276f"
	a, b := Pack(random(61, 301, 1)), Pack(random(77, 301, 2))
	for _, set := range simd.Levels() {
		want := []string{fused}
		switch set {
		case simd.SSE2:
			want = []string{rounded}
		case simd.Portable: // the compiler of an architecture may fuse
			want = []string{fused, rounded}
		}
		dst := New(61, 77)
		MulRight(dst, a, packRight(set, b, 1), 1)
		sum := sha256.New()
		for _, v := range dst.Data {
			_ = binary.Write(sum, binary.LittleEndian, v)
		}
		if got := hex.EncodeToString(sum.Sum(nil)[:8]); !slices.Contains(want, got) {
			t.Errorf("%s: digest %s, want one of %v", set, got, want)
		}
	}
}

func TestNoColumnsAndNoRows(t *testing.T) {
	for _, set := range simd.Levels() {
		dst := New(3, 5)
		for i := range dst.Data {
			dst.Data[i] = 7
		}
		MulRight(dst, NewPacked(3, 0), packRight(set, NewPacked(5, 0), 1), 1)
		if slices.Max(dst.Data) != 0 {
			t.Errorf("%s: the product of nothing is %v", set, dst.Data)
		}
		MulRight(New(0, 5), NewPacked(0, 4), packRight(set, NewPacked(5, 4), 1), 1)
		MulRight(New(3, 0), NewPacked(3, 4), packRight(set, NewPacked(0, 4), 1), 1)
	}
}

// Denormal numbers are not flushed, and nothing is written outside of dst.
func TestDenormalsAndEdges(t *testing.T) {
	for _, set := range simd.Levels() {
		a, b := NewPacked(13, 1), NewPacked(33, 1)
		for i := range 13 {
			a.Row(i)[0] = 0x1p-100
		}
		for j := range 33 {
			b.Row(j)[0] = float32(j) * 0x1p-48
		}
		all := make([]float32, 16+13*33+16)
		MulRight(Matrix{Rows: 13, Cols: 33, Data: all[16 : 16+13*33]}, a, packRight(set, b, 1), 1)
		for i, v := range all {
			want := float32(0)
			if at := i - 16; at >= 0 && at < 13*33 {
				want = float32(at%33) * 0x1p-148
			}
			if v != want {
				t.Fatalf("%s: number %d is %v, want %v", set, i-16, v, want)
			}
		}
	}
}

// A squared norm has the bits that the product of the row with itself has
// anywhere in a larger product.
func TestSquaredNorms(t *testing.T) {
	for _, rows := range []int{0, 1, 31, 32, 33, 100} {
		p := Pack(random(rows, 57, 4))
		all := New(rows, rows)
		MulT(all, p, p, 0)
		for i, v := range SquaredNorms(p, 2) {
			if v != all.Row(i)[i] {
				t.Errorf("%d rows: norm %d is %v, want %v", rows, i, v, all.Row(i)[i])
			}
		}
	}
}

func TestShapes(t *testing.T) {
	a, b := NewPacked(4, 3), NewPacked(64, 3)
	for name, bad := range map[string]func(){
		"rows":    func() { MulT(New(5, 64), a, b, 1) },
		"columns": func() { MulT(New(4, 63), a, b, 1) },
		"inner":   func() { MulT(New(4, 64), a, NewPacked(64, 2), 1) },
		"data":    func() { MulT(Matrix{Rows: 4, Cols: 64}, a, b, 1) },
		"slice":   func() { PackRight(b, 1).Slice(1, 64) },
		"end":     func() { PackRight(b, 1).Slice(0, 33) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			bad()
		}()
	}
}
