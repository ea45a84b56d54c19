package sampler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// PCAShell is our reading of geometrically constrained outlier synthesis, GCOS
// (Karzanov and Detyniecki, ICML 2026, arXiv 2603.08413), which has no public
// code. Of the paper are: principal components per class; directions of small
// variance, which lead off the manifold; a shell between two quantiles, 0.95 and
// 0.99, of the Mahalanobis distances of ID embeddings; samples z = μ + αv within
// it. A public summary gives two more of its constants, which are used here: the
// components of large variance are those that explain 90 %, and distances are
// d²(z) = Σ_i (e_i·(z−μ))² / (λ_i + ε).
//
// Ours is what the paper leaves open or a unit sphere asks for:
//   - ε is 1e-4. Without it all rows of a bank of at most D+1 would have the same
//     distance.
//   - The shell is that of the bank itself; the paper holds embeddings out.
//   - A direction v is a standard normal vector without its part along the large
//     components, scaled to unit length. The paper, in training, takes the mean
//     of the small components, or each of them, with a random sign.
//   - The distance is drawn uniformly between the two bounds and gives α; the
//     paper draws α between the two at which the bounds are met.
//   - What is returned is z/‖z‖: z lies in the shell, and the sample is the
//     direction of z, as only directions are decoded.
//
// Every sample is a round with one noise. It starts from the mean, not from a
// row; its Source is the nearest one. K is for the distances that are reported,
// Select for how many rows the boundary lists: those of the largest Mahalanobis
// distance.
type PCAShell struct{}

// largeShare is the share of the variance that the large components explain.
const largeShare = 0.9

// Name implements [Method].
func (PCAShell) Name() string { return "pca-shell" }

// Summary implements [Method].
func (PCAShell) Summary() string {
	return "Embeddings off the class's principal subspace, in a shell of Mahalanobis distances (after GCOS, arXiv 2603.08413)."
}

// Defaults implements [Method].
func (PCAShell) Defaults() Params {
	return Params{K: 300, Select: 50, Pick: 1, Noises: 1, Keep: 1, Mode: ModePaper, Lower: 0.95, Upper: 0.99}
}

// Prepare implements [Method].
func (m PCAShell) Prepare(ctx context.Context, in Input, params Params) (Sampler, error) {
	if err := m.validate(in, params); err != nil {
		return nil, err
	}
	class, err := newClassBank(ctx, in.Bank, params)
	if err != nil {
		return nil, err
	}
	noise, err := newGaussians("sampler.pca-shell.noise", in, params.Seed, 1)
	if err != nil {
		return nil, err
	}
	s := &shellSampler{classBank: class, seed: params.Seed, noise: noise, mean: means(class.unit.Matrix)}
	if err := s.findAxes(ctx); err != nil {
		return nil, err
	}
	distances, err := s.distances(ctx)
	if err != nil {
		return nil, err
	}
	class.boundary.selectRows(extreme(distances, params.Select))
	slices.Sort(distances)
	s.inner, s.outer = quantile64(distances, params.Lower), quantile64(distances, params.Upper)
	return s, nil
}

// validate reports every problem as [Problems].
func (PCAShell) validate(in Input, p Params) error {
	c := newChecks(in.Bank, p)
	c.that(in.Bank.Rows < 2 || in.Bank.Cols >= 2, "bank", "has %d columns; directions of small variance need at least 2", in.Bank.Cols)
	c.that(p.Lower > 0 && p.Lower < 1, "lower", "is %v; it must be above 0 and below 1", p.Lower)
	c.that(p.Upper > p.Lower && p.Upper < 1, "upper", "is %v; it must be above lower, which is %v, and below 1", p.Upper, p.Lower)
	one := func(field string, v int) {
		c.that(v <= 1, field, "is %d; every sample of this method is a round with one noise of its own", v)
	}
	one("pick", p.Pick)
	one("noises", p.Noises)
	one("keep", p.Keep)
	return c.err()
}

// shellSampler draws one sample per round.
type shellSampler struct {
	*classBank
	seed         uint64
	noise        gaussians
	mean         []float64      // μ [D]
	axes         blas64.General // e_i, columns [D, D], of rising variance
	weights      []float64      // 1/(λ_i + ε) [D]
	large        int            // the last so many axes are the large components
	inner, outer float64        // Mahalanobis distances
}

// findAxes computes the principal components of the bank.
func (s *shellSampler) findAxes(ctx context.Context) error {
	spread := newScatter(len(s.mean))
	if err := spread.add(ctx, s.unit.Matrix, s.mean); err != nil {
		return err
	}
	sigma := spread.covariance(0)
	total := mat.Trace(sigma)
	if total < 1e-12 {
		return errors.New("bank: all embeddings of the class are equal; there is no direction of small variance")
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(sigma, true) {
		return fmt.Errorf("bank: the eigenvalues of its covariance [%d, %d] did not converge", len(s.mean), len(s.mean))
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	s.axes = vectors.RawMatrix()
	values := eigen.Values(nil)
	s.weights = make([]float64, len(values))
	for i, v := range values {
		s.weights[i] = 1 / (max(0, v) + ridge)
	}
	for explained := 0.0; explained < largeShare*total && s.large < len(values)-1; s.large++ {
		explained += values[len(values)-1-s.large]
	}
	return nil
}

// distances are the Mahalanobis distances of the rows of the bank.
func (s *shellSampler) distances(ctx context.Context) ([]float64, error) {
	out := make([]float64, s.unit.Rows)
	d := len(s.mean)
	along := blas64.General{Cols: d, Stride: d, Data: make([]float64, min(scatterRows, s.unit.Rows)*d)}
	err := centredRows(ctx, s.unit.Matrix, s.mean, func(from int, x blas64.General) {
		along.Rows = x.Rows
		blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, x, s.axes, 0, along)
		for i := range x.Rows {
			c := along.Data[i*d : (i+1)*d]
			out[from+i] = math.Sqrt(s.weighted(c, c))
		}
	})
	return out, err
}

// weighted is ⟨a,b⟩ = Σ_i a_i b_i / (λ_i + ε), for coordinates along the axes.
func (s *shellSampler) weighted(a, b []float64) float64 {
	var sum float64
	for i, w := range s.weights {
		sum += float64(float64(a[i]*b[i]) * w)
	}
	return sum
}

// along are the coordinates of v along the axes.
func (s *shellSampler) along(v []float64) []float64 {
	out := make([]float64, len(v))
	for j, x := range v {
		for i, e := range s.axes.Data[j*s.axes.Stride : j*s.axes.Stride+len(v)] {
			out[i] += float64(x * e)
		}
	}
	return out
}

// direction is the unit vector off the large components that a round goes along.
func (s *shellSampler) direction(class uint32, round int) []float64 {
	g := make([]float32, len(s.mean))
	s.noise.fill(g, class, round, 0)
	v := make([]float64, len(g))
	for j, x := range g {
		v[j] = float64(x)
	}
	first := len(v) - s.large
	for range 2 { // once leaves rounding errors where little of g remains
		c := s.along(v)
		for j := range v {
			v[j] -= dot64(c[first:], s.axes.Data[j*s.axes.Stride+first:])
		}
	}
	norm := math.Sqrt(dot64(v, v))
	for j := range v {
		v[j] /= norm
	}
	return v
}

// point is the point of a round within the shell: μ + αv. Along v the distance
// from the mean grows with α, by √⟨v,v⟩ for each unit.
func (s *shellSampler) point(class uint32, round int) []float64 {
	var u [1]float32
	philox.Uniform(u[:], philox.Key{Seed: s.seed, Purpose: "sampler.pca-shell.distance", Class: class, Index: uint64(round)})
	distance := s.inner + float64(float64(u[0])*(s.outer-s.inner))
	z := s.direction(class, round)
	c := s.along(z)
	alpha := distance / math.Sqrt(s.weighted(c, c))
	for j, v := range z {
		z[j] = s.mean[j] + float64(alpha*v)
	}
	return z
}

// shellBlock is how many samples are computed at once.
const shellBlock = 64

// Sample implements [Sampler].
func (s *shellSampler) Sample(ctx context.Context, r Range, yield func(Outlier) error) error {
	if err := s.check(r); err != nil {
		return err
	}
	if err := s.noise.check(r, 1); err != nil {
		return err
	}
	for at, end := r.Offset, r.Offset+r.Count; at < end; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		samples := make([]Outlier, min(shellBlock, end-at))
		matrix.Each(len(samples), 0, func(i int) {
			samples[i] = Outlier{Index: at + i, Round: at + i, Source: -1, Embedding: embedding(s.point(r.Class, at+i))}
		})
		if err := s.emit(ctx, r, samples, yield); err != nil {
			return err
		}
		at += len(samples)
	}
	return nil
}

// quantile64 is the p-quantile of sorted values with linear interpolation, as
// NumPy's.
func quantile64(sorted []float64, p float64) float64 {
	x := p * float64(len(sorted)-1)
	i := int(x)
	return sorted[i] + (x-float64(i))*(sorted[min(i+1, len(sorted)-1)]-sorted[i])
}
