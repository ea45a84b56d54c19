package sampler

import (
	"fmt"
	"math"

	"github.com/dreamood/dreamood/internal/matrix"
)

const (
	// rightBytes is the size up to which a bank is held a second time, packed for
	// products; a larger one is packed a tile at a time.
	rightBytes = 64 << 20
	// tileRows of a larger bank are packed at a time.
	tileRows = 4096
	// productBytes bounds a block of products with the bank that is held at once,
	// unless a quarter of the bank is more.
	productBytes = 128 << 20
)

// unitBank holds rows of unit norm and what the bounds of exact.go need of them.
type unitBank struct {
	matrix.Matrix               // [N, D]
	squares       []float64     // Dot(x, x) of every row
	margin        float64       // relativeMargin
	right         *matrix.Right // of a small bank
	striped       bool          // see [block.tellOff]
}

// toUnit normalises the rows of m. Where the norms of all rows are within 1e-6 of
// 1 they are unit rows already, and m is used as it is, without a copy. A row whose
// norm is zero, or a value that is not finite, is an error that names the row.
func toUnit(m matrix.Matrix) (*unitBank, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	b := &unitBank{Matrix: m, squares: make([]float64, m.Rows), striped: m.Rows >= stripedRows}
	matrix.Each(m.Rows, 0, func(i int) { b.squares[i] = matrix.Dot(m.Row(i), m.Row(i)) })
	already := true
	for i, s := range b.squares {
		if s == 0 {
			return nil, fmt.Errorf("row %d is zero and has no direction", i)
		}
		already = already && math.Abs(math.Sqrt(s)-1) <= 1e-6
	}
	if !already {
		b.Matrix = matrix.New(m.Rows, m.Cols)
		matrix.Each(m.Rows, 0, func(i int) {
			norm, dst := math.Sqrt(b.squares[i]), b.Row(i)
			for j, v := range m.Row(i) {
				dst[j] = float32(float64(v) / norm)
			}
			b.squares[i] = matrix.Dot(dst, dst)
		})
	}
	spread := 0.0
	for _, s := range b.squares {
		spread = max(spread, math.Abs(s-1))
	}
	b.margin = relativeMargin(m.Cols, spread)
	if 4*m.Rows*m.Cols <= rightBytes {
		b.right = matrix.PackRight(matrix.Pack(b.Matrix), 0)
	}
	return b, nil
}

// portion is how many rows of products with the bank are held at once.
func (b *unitBank) portion() int {
	return max(1, productBytes/(4*b.Rows), b.Cols/4)
}

// product sets and returns the first a.Rows rows of dst, [≥ a.Rows, N], to the
// float32 products of a with the rows of the bank. Of a large bank a tile of rows
// is multiplied at a time, from the left, for which they need no packing.
func (b *unitBank) product(dst matrix.Matrix, a *matrix.Packed) matrix.Matrix {
	dst.Rows, dst.Data = a.Rows, dst.Data[:a.Rows*b.Rows]
	if b.right != nil {
		matrix.MulRight(dst, a, b.right, 0)
		return dst
	}
	right := matrix.PackRight(a, 0)
	rows, tile := matrix.NewPacked(tileRows, b.Cols), matrix.New(tileRows, a.Rows)
	for from := 0; from < b.Rows; from += tileRows {
		n := min(tileRows, b.Rows-from)
		matrix.Each(n, 0, func(i int) { copy(rows.Row(i), b.Row(from+i)) })
		part := matrix.Matrix{Rows: n, Cols: a.Rows, Data: tile.Data[:n*a.Rows]}
		matrix.MulRight(part, rows.Slice(0, n), right, 0)
		transpose(dst, from, part)
	}
	return dst
}

// transpose sets columns [from, from+part.Rows) of dst to partᵀ, a line of the
// cache of part at a time.
func transpose(dst matrix.Matrix, from int, part matrix.Matrix) {
	const together = 16
	matrix.Each((part.Cols+together-1)/together, 0, func(t int) {
		first, end := t*together, min((t+1)*together, part.Cols)
		for j := range part.Rows {
			for i, v := range part.Row(j)[first:end] {
				dst.Data[(first+i)*dst.Cols+from+j] = v
			}
		}
	})
}
