// Package matrix holds dense row-major float32 matrices and the one product
// that nearest-neighbour search and sampling need, A·Bᵀ.
//
// Every element of a product is one sum in the order of the columns, whatever
// the shapes around it, its place in a tile and however many workers share the
// work, so results are bit-identical for any batch and any number of workers on
// one machine. Between machines the last bits may differ: the AVX-512, AVX2 and
// NEON kernels fuse multiplication and addition and agree with each other, the one
// of SSE2 rounds both, and the one in Go does what its compiler does.
// internal/simd says which is used.
package matrix

import (
	"fmt"
	"math"
)

// Matrix is a dense [Rows, Cols] float32 matrix, row after row. The zero value
// is empty.
type Matrix struct {
	Rows, Cols int
	Data       []float32 // Rows*Cols
}

// New returns a matrix of zeros.
func New(rows, cols int) Matrix {
	return Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
}

// Of wraps data, without a copy, as a [len(data)/cols, cols] matrix.
func Of(data []float32, cols int) (Matrix, error) {
	if cols < 1 || len(data)%cols != 0 {
		return Matrix{}, fmt.Errorf("%d values are not rows of %d", len(data), cols)
	}
	return Matrix{Rows: len(data) / cols, Cols: cols, Data: data}, nil
}

// Row is row i, a view.
func (m Matrix) Row(i int) []float32 { return m.Data[i*m.Cols : (i+1)*m.Cols : (i+1)*m.Cols] }

// Check reports a shape that does not fit the data, or the first value that is
// not finite, by its row and column.
func (m Matrix) Check() error {
	if m.Rows < 0 || m.Cols < 0 || len(m.Data) != m.Rows*m.Cols {
		return fmt.Errorf("%d values for shape [%d, %d]", len(m.Data), m.Rows, m.Cols)
	}
	for i, v := range m.Data {
		if x := float64(v); math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("row %d, column %d is %v; every value must be finite", i/m.Cols, i%m.Cols, v)
		}
	}
	return nil
}

// Normalised returns a copy with every row scaled to unit L2 norm. A row whose
// norm is zero, or a value that is not finite, is an error that names the row.
func (m Matrix) Normalised() (Matrix, error) {
	if err := m.Check(); err != nil {
		return Matrix{}, err
	}
	out := New(m.Rows, m.Cols)
	for i := range m.Rows {
		norm := Norm(m.Row(i))
		if norm == 0 {
			return Matrix{}, fmt.Errorf("row %d is zero and has no direction", i)
		}
		dst := out.Row(i)
		for j, v := range m.Row(i) {
			dst[j] = float32(float64(v) / norm)
		}
	}
	return out, nil
}

// Norm is the L2 norm of v, summed in float64.
func Norm(v []float32) float64 { return math.Sqrt(Dot(v, v)) }

// Dot is the inner product of a and b, summed in float64. b must be at least as
// long as a.
func Dot(a, b []float32) float64 {
	b = b[:len(a)]
	var s0, s1 float64
	i := 0
	for ; i+1 < len(a); i += 2 {
		s0 += float64(a[i]) * float64(b[i])
		s1 += float64(a[i+1]) * float64(b[i+1])
	}
	if i < len(a) {
		s0 += float64(a[i]) * float64(b[i])
	}
	return s0 + s1
}
