// Package project draws maps of embeddings: projections to two dimensions.
package project

import (
	"fmt"
	"math"

	"github.com/dreamood/dreamood/internal/matrix"
	"gonum.org/v1/gonum/mat"
)

// Plane is the plane of the two principal components of some embeddings, onto
// which others can be projected too.
type Plane struct {
	Mean      []float64    // [D]
	Axes      [2][]float64 // [D] each, orthonormal; the largest loading is positive
	Explained [2]float64   // share of the variance, each
}

// PCA2 projects rows [N, D] onto their first two principal components:
// coordinates [N] and the shares of the variance that they explain.
func PCA2(rows matrix.Matrix) (xy [][2]float64, explained [2]float64, err error) {
	p, err := Fit(rows)
	if err != nil {
		return nil, explained, err
	}
	xy, err = p.Project(rows)
	return xy, p.Explained, err
}

// Fit finds the principal plane of rows [N, D], N and D at least 2. It works on
// the smaller of the covariance [D, D] and the Gram matrix [N, N].
func Fit(rows matrix.Matrix) (Plane, error) {
	if err := rows.Check(); err != nil {
		return Plane{}, fmt.Errorf("principal components: %w", err)
	}
	n, d := rows.Rows, rows.Cols
	if n < 2 || d < 2 {
		return Plane{}, fmt.Errorf("principal components of shape [%d, %d]; at least two rows and two columns are needed", n, d)
	}
	mean := means(rows)
	centred := mat.NewDense(n, d, nil)
	for i := range n {
		for j, v := range rows.Row(i) {
			centred.Set(i, j, float64(v)-mean[j])
		}
	}
	var product mat.SymDense
	if d <= n {
		product.SymOuterK(1, centred.T())
	} else {
		product.SymOuterK(1, centred)
	}
	p := Plane{Mean: mean}
	total := mat.Trace(&product)
	if total == 0 {
		return Plane{}, fmt.Errorf("principal components: all %d rows are equal", n)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(&product, true) {
		return Plane{}, fmt.Errorf("principal components: the eigenvalues of a [%d, %d] matrix did not converge", min(n, d), min(n, d))
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	values := eigen.Values(nil) // rising
	for k := range p.Axes {
		at := len(values) - 1 - k
		p.Explained[k] = max(0, values[at]/total)
		axis := mat.NewVecDense(d, nil)
		if d <= n {
			axis.CopyVec(vectors.ColView(at))
		} else {
			axis.MulVec(centred.T(), vectors.ColView(at))
		}
		p.Axes[k] = oriented(axis.RawVector().Data)
	}
	return p, nil
}

// Project gives the coordinates of rows [M, D] in the plane.
func (p Plane) Project(rows matrix.Matrix) ([][2]float64, error) {
	if rows.Rows > 0 && rows.Cols != len(p.Mean) {
		return nil, fmt.Errorf("project %d columns onto a plane in %d dimensions", rows.Cols, len(p.Mean))
	}
	out := make([][2]float64, rows.Rows)
	for i := range out {
		for j, v := range rows.Row(i) {
			c := float64(v) - p.Mean[j]
			out[i][0] += c * p.Axes[0][j]
			out[i][1] += c * p.Axes[1][j]
		}
	}
	return out, nil
}

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

// oriented scales v to unit norm with its largest component positive. A vector
// of zeros, where the rows span less than a plane, stays.
func oriented(v []float64) []float64 {
	var square, largest float64
	for _, x := range v {
		square += x * x
		if math.Abs(x) > math.Abs(largest) {
			largest = x
		}
	}
	if square == 0 {
		return v
	}
	scale := math.Copysign(1/math.Sqrt(square), largest)
	for j := range v {
		v[j] *= scale
	}
	return v
}
