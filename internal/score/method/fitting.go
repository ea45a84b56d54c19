package method

import (
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
	"github.com/dreamood/dreamood/internal/philox"
)

// fitting is a Training with what several scores need of it, each computed once, in float64.
type fitting struct {
	Training
	mean     []float64   // [D] of all features
	centres  [][]float64 // [C][D] means of the classes
	energies []float64   // [N] logsumexp of the logits
	tops     []float64   // [N] largest logit
	within   *whitening  // by the covariance around the class means; made on demand
}

func newFitting(t Training) *fitting {
	c, d, n := t.Weight.Rows, t.Weight.Cols, t.Features.Rows
	f := &fitting{Training: t, mean: make([]float64, d), centres: make([][]float64, c), energies: make([]float64, n), tops: make([]float64, n)}
	counts := make([]float64, c)
	for y := range f.centres {
		f.centres[y] = make([]float64, d)
	}
	for i, y := range t.Labels {
		counts[y]++
		for j, v := range t.Features.Row(i) {
			f.mean[j] += float64(v)
			f.centres[y][j] += float64(v)
		}
	}
	for j := range f.mean {
		f.mean[j] /= float64(n)
		for y := range f.centres {
			f.centres[y][j] /= counts[y]
		}
	}
	logits := make([]float64, c)
	for i := range n {
		f.logits(logits, i)
		f.energies[i], f.tops[i] = logSumExp(logits), slices.Max(logits)
	}
	return f
}

// logits of training picture i.
func (f *fitting) logits(dst []float64, i int) {
	z := f.Features.Row(i)
	for y := range dst {
		sum := float64(f.Bias[y])
		for j, w := range f.Weight.Row(y) {
			sum += float64(w) * float64(z[j])
		}
		dst[y] = sum
	}
}

// nonNegative returns ErrUnfit where a feature is negative.
func (f *fitting) nonNegative() error {
	if i := slices.IndexFunc(f.Features.Data, func(v float32) bool { return v < 0 }); i >= 0 {
		return fmt.Errorf("%w: it is defined for features that are not negative, and one is %g", ErrUnfit, f.Features.Data[i])
	}
	return nil
}

// chosen are at most rows of the training pictures, rising, drawn without replacement.
func (f *fitting) chosen(rows int, purpose string) []int {
	n := f.Features.Rows
	if n <= rows {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		return all
	}
	picked := philox.Choose(n, rows, philox.Key{Seed: f.Seed, Purpose: purpose})
	slices.Sort(picked)
	return picked
}

// unit is row i at length 1; false where it has none.
func (f *fitting) unit(i int) ([]float64, bool) {
	z := f.Features.Row(i)
	out := make([]float64, len(z))
	var square float64
	for j, v := range z {
		out[j] = float64(v)
		square += out[j] * out[j]
	}
	if square == 0 {
		return out, false
	}
	times(1/sqrt(square), out)
	return out, true
}

// rank is the smallest eigenvalue that counts, as a share of the largest: float32 features resolve no finer. Directions
// below it, such as features that are always zero, are left out, as by a pseudo-inverse.
const rank = 1e-9

// whitening maps features to coordinates in which a covariance is the identity: [R, D], R at most D.
type whitening struct {
	rows [][]float64
}

// newWhitening takes deviations [N][D] from some means.
func newWhitening(n, d int, deviation func(dst []float64, i int)) (*whitening, error) {
	x := mat.NewDense(n, d, nil)
	for i := range n {
		deviation(x.RawRowView(i), i)
	}
	values, vectors, err := eigen(x)
	if err != nil {
		return nil, err
	}
	w := &whitening{}
	largest := values[d-1]
	for k := d - 1; k >= 0 && values[k] > rank*largest; k-- {
		row := mat.Col(nil, k, vectors)
		times(1/sqrt(values[k]), row)
		w.rows = append(w.rows, row)
	}
	if len(w.rows) == 0 {
		return nil, fmt.Errorf("%w: all features are equal", ErrUnfit)
	}
	return w, nil
}

// eigen are the eigenvalues of xᵀx/N, rising, and their vectors, one per column.
func eigen(x *mat.Dense) ([]float64, *mat.Dense, error) {
	n, d := x.Dims()
	var product mat.SymDense
	product.SymOuterK(1/float64(n), x.T())
	var e mat.EigenSym
	if !e.Factorize(&product, true) {
		return nil, nil, fmt.Errorf("the eigenvalues of the covariance [%d, %d] of the features did not converge", d, d)
	}
	var vectors mat.Dense
	e.VectorsTo(&vectors)
	return e.Values(nil), &vectors, nil
}

// inClasses whitens by the covariance around the class means, shared by all classes.
func (f *fitting) inClasses() (*whitening, error) {
	if f.within == nil {
		var err error
		f.within, err = newWhitening(f.Features.Rows, f.Features.Cols, func(dst []float64, i int) { f.deviation(dst, i, f.centres[f.Labels[i]]) })
		if err != nil {
			return nil, err
		}
	}
	return f.within, nil
}

// deviation of training picture i from a point.
func (f *fitting) deviation(dst []float64, i int, from []float64) {
	for j, v := range f.Features.Row(i) {
		dst[j] = float64(v) - from[j]
	}
}

// apply is w·(point − origin).
func (w *whitening) apply(point, origin []float64) []float64 {
	out := make([]float64, len(w.rows))
	for k, row := range w.rows {
		for j, v := range row {
			out[k] += v * (point[j] - origin[j])
		}
	}
	return out
}

// emit writes w·(features − origin) in float64, [N, R]: the whitened coordinates of a direction of small variance are
// large multiples of small differences.
func (w *whitening) emit(g *emitter, features string, origin []float64) string {
	d := len(origin)
	var data []float64
	for _, row := range w.rows {
		data = append(data, row...)
	}
	wide := g.to(features, onnxpb.TensorProto_DOUBLE)
	return g.product(g.sub(wide, g.doubles(origin, 1, d)), g.doubles(data, len(w.rows), d))
}
