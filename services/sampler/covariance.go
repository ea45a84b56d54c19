package sampler

import (
	"context"

	"github.com/dreamood/dreamood/internal/matrix"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// ridge is added to every variance, as the published code of VOS does. Between
// unit vectors in 768 dimensions the mean variance is at most 1/768 = 13·ridge,
// so it weighs in the directions in which a class hardly spreads, and it makes a
// covariance of fewer rows than dimensions positive definite.
const ridge = 1e-4

const (
	scatterRows = 1024 // so many rows are turned to float64 at once
	scatterTile = 128  // edge of the tiles that workers share
)

// means is the mean of rows [N, D] over N, summed row after row.
func means(rows matrix.Matrix) []float64 {
	mean := make([]float64, rows.Cols)
	for i := range rows.Rows {
		for j, v := range rows.Row(i) {
			mean[j] += float64(v)
		}
	}
	for j := range mean {
		mean[j] /= float64(rows.Rows)
	}
	return mean
}

// centredRows calls do with every row of rows [N, D] less mean, as portions
// [n, D] in order; the portion is overwritten afterwards.
func centredRows(ctx context.Context, rows matrix.Matrix, mean []float64, do func(from int, centred blas64.General)) error {
	n, d := min(scatterRows, rows.Rows), rows.Cols
	data := make([]float64, n*d)
	for from := 0; from < rows.Rows; from += n {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		part := blas64.General{Rows: min(n, rows.Rows-from), Cols: d, Stride: d, Data: data}
		matrix.Each(part.Rows, 0, func(i int) {
			dst := data[i*d : (i+1)*d]
			for j, v := range rows.Row(from + i) {
				dst[j] = float64(v) - mean[j]
			}
		})
		do(from, part)
	}
	return nil
}

// scatter collects the covariance that classes share: each is spread around its
// own mean, and rows count alike.
type scatter struct {
	sum  blas64.General // [D, D], the upper triangle
	rows int
}

func newScatter(dim int) *scatter {
	return &scatter{sum: blas64.General{Rows: dim, Cols: dim, Stride: dim, Data: make([]float64, dim*dim)}}
}

// add takes in the rows [N, D] of one class, which have this mean.
func (s *scatter) add(ctx context.Context, rows matrix.Matrix, mean []float64) error {
	s.rows += rows.Rows
	var tiles [][2]int // first row and column of the tiles of the upper triangle
	for i := 0; i < rows.Cols; i += scatterTile {
		for j := i; j < rows.Cols; j += scatterTile {
			tiles = append(tiles, [2]int{i, j})
		}
	}
	return centredRows(ctx, rows, mean, func(_ int, x blas64.General) {
		matrix.Each(len(tiles), 0, func(t int) {
			i, j := tiles[t][0], tiles[t][1]
			a, b, sum := x, x, s.sum
			a.Cols, a.Data = min(scatterTile, x.Cols-i), x.Data[i:]
			b.Cols, b.Data = min(scatterTile, x.Cols-j), x.Data[j:]
			sum.Rows, sum.Cols, sum.Data = a.Cols, b.Cols, sum.Data[i*sum.Stride+j:]
			blas64.Gemm(blas.Trans, blas.NoTrans, 1, a, b, 1, sum)
		})
	})
}

// covariance is the scatter over the number of rows, plus diagonal on its
// diagonal. The scatter is used up.
func (s *scatter) covariance(diagonal float64) *mat.SymDense {
	blas64.Scal(1/float64(s.rows), blas64.Vector{N: len(s.sum.Data), Inc: 1, Data: s.sum.Data})
	for j := range s.sum.Rows {
		s.sum.Data[j*s.sum.Stride+j] += diagonal
	}
	return mat.NewSymDense(s.sum.Rows, s.sum.Data)
}
