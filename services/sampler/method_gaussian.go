package sampler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// Gaussian is the sampler of virtual outlier synthesis, VOS (Du, Wang, Cai and
// Li, ICLR 2022, arXiv 2202.01197, equations 3 to 5): a Gaussian per class with
// the mean of the class and a covariance that all classes share, and of many
// draws from it the least likely ones.
//
// The mean and the covariance are those of unit vectors, the covariance with
// 1e-4 added to its diagonal as in the published code. Where Input.Banks is nil
// it is that of the class alone. A draw x = μ + Lg, LLᵀ = Σ, has the squared
// Mahalanobis distance ‖g‖², so the least likely draws are those with the
// longest noises: a comparison of sums in float64 that is the same on every CPU.
// What is returned is x/‖x‖.
//
// K is for the distances that are reported, Select for how many rows the
// boundary lists: those of the bank that are least likely under the Gaussian. A
// sample starts from no row; its Source is the nearest one.
type Gaussian struct{}

// Name implements [Method].
func (Gaussian) Name() string { return "gaussian" }

// Summary implements [Method].
func (Gaussian) Summary() string {
	return "The least likely draws from a Gaussian per class whose covariance all classes share (VOS, arXiv 2202.01197)."
}

// Defaults implements [Method]: the published code keeps 1 of 10,000 draws.
func (Gaussian) Defaults() Params {
	return Params{K: 300, Select: 50, Pick: 1, Noises: 10_000, Keep: 1, Mode: ModePaper}
}

// Prepare implements [Method].
func (g Gaussian) Prepare(ctx context.Context, in Input, params Params) (Sampler, error) {
	if err := g.validate(in, params); err != nil {
		return nil, err
	}
	class, err := newClassBank(ctx, in.Bank, params)
	if err != nil {
		return nil, err
	}
	noise, err := newGaussians("sampler.gaussian.noise", in, params.Seed, params.Noises)
	if err != nil {
		return nil, err
	}
	s := &gaussianSampler{classBank: class, params: params, noise: noise, mean: means(class.unit.Matrix)}
	if err := s.factorise(ctx, in); err != nil {
		return nil, err
	}
	distances, err := s.distances(ctx)
	if err != nil {
		return nil, err
	}
	class.boundary.selectRows(extreme(distances, params.Select))
	return s, nil
}

// validate reports every problem as [Problems].
func (Gaussian) validate(in Input, p Params) error {
	c := newChecks(in.Bank, p)
	c.that(p.Noises >= 1, "noises", "is %d; it must be at least 1", p.Noises)
	c.that(p.Noises <= philox.MaxWords/max(1, in.Bank.Cols), "noises", "is %d in %d dimensions; at most %d numbers can be drawn per round: lower noises and ask for more rounds", p.Noises, in.Bank.Cols, philox.MaxWords)
	c.that(p.Keep >= 1 && p.Keep <= p.Noises, "keep", "is %d of %d noises; it must be at least 1 and at most noises", p.Keep, p.Noises)
	c.that(p.Pick <= 1, "pick", "is %d; all draws of a round are around one point, the mean", p.Pick)
	return c.err()
}

// gaussianSampler draws Keep samples per round.
type gaussianSampler struct {
	*classBank
	params Params
	noise  gaussians
	mean   []float64         // μ [D]
	upper  blas64.Triangular // U = Lᵀ [D, D], UᵀU = Σ
}

// factorise finds L of the covariance that the classes share.
func (s *gaussianSampler) factorise(ctx context.Context, in Input) error {
	total := newScatter(len(s.mean))
	if err := total.add(ctx, s.unit.Matrix, s.mean); err != nil {
		return err
	}
	if in.Banks != nil {
		banks, err := in.Banks(ctx)
		if err != nil {
			return fmt.Errorf("banks: %w", err)
		}
		if in.Class < 0 || in.Class >= len(banks) || banks[in.Class].Rows != in.Bank.Rows {
			return Problems{{"banks", fmt.Sprintf("are %d, and none is number %d with the %d rows of the class; give those of all classes", len(banks), in.Class, in.Bank.Rows)}}
		}
		for class, bank := range banks {
			if class == in.Class || bank.Rows == 0 {
				continue
			}
			if bank.Cols != len(s.mean) {
				return Problems{{"banks", fmt.Sprintf("have %d columns in class %d and %d in the class itself", bank.Cols, class, len(s.mean))}}
			}
			unit, err := bank.Normalised()
			if err != nil {
				return fmt.Errorf("banks: class %d: %w", class, err)
			}
			if err := total.add(ctx, unit, means(unit)); err != nil {
				return err
			}
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(total.covariance(ridge)) {
		return errors.New("bank: the covariance is not positive definite in float64")
	}
	var upper mat.TriDense
	chol.UTo(&upper)
	s.upper = upper.RawTriangular()
	return nil
}

// distances are the squared Mahalanobis distances of the rows of the bank:
// ‖L⁻¹(x−μ)‖².
func (s *gaussianSampler) distances(ctx context.Context) ([]float64, error) {
	out := make([]float64, s.unit.Rows)
	err := centredRows(ctx, s.unit.Matrix, s.mean, func(from int, x blas64.General) {
		blas64.Trsm(blas.Right, blas.NoTrans, 1, s.upper, x)
		for i := range x.Rows {
			row := x.Data[i*x.Stride : i*x.Stride+x.Cols]
			out[from+i] = dot64(row, row)
		}
	})
	return out, err
}

// Sample implements [Sampler]. A round is Keep samples, the least likely first.
func (s *gaussianSampler) Sample(ctx context.Context, r Range, yield func(Outlier) error) error {
	if err := s.check(r); err != nil {
		return err
	}
	keep := s.params.Keep
	if err := s.noise.check(r, keep); err != nil {
		return err
	}
	for at, end := r.Offset, r.Offset+r.Count; at < end; {
		round := at / keep
		from, to := at-round*keep, min(end-round*keep, keep)
		kept, err := s.round(ctx, r.Class, round)
		if err != nil {
			return err
		}
		samples := make([]Outlier, to-from)
		matrix.Each(len(samples), 0, func(i int) {
			noise := kept[from+i]
			samples[i] = Outlier{
				Index: at + i, Round: round, Source: -1, NoiseIndex: noise, Rank: from + i,
				Embedding: embedding(s.draw(r.Class, round, noise)),
			}
		})
		if err := s.emit(ctx, r, samples, yield); err != nil {
			return err
		}
		at += len(samples)
	}
	return nil
}

// round finds the Keep longest of the noises of one round, the longest first;
// ties go to the smaller noise.
func (s *gaussianSampler) round(ctx context.Context, class uint32, round int) ([]int, error) {
	squares := make([]float64, s.params.Noises)
	portions := (len(squares) + gaussianPortion - 1) / gaussianPortion
	matrix.Each(portions, 0, func(p int) {
		if ctx.Err() != nil {
			return
		}
		g := make([]float32, s.unit.Cols)
		for i := p * gaussianPortion; i < min((p+1)*gaussianPortion, len(squares)); i++ {
			s.noise.fill(g, class, round, i)
			squares[i] = matrix.Dot(g, g)
		}
	})
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return extreme(squares, s.params.Keep), nil
}

// gaussianPortion is how many noises one worker takes at once.
const gaussianPortion = 64

// draw is μ + Lg for one noise g of a round.
func (s *gaussianSampler) draw(class uint32, round, i int) []float64 {
	g := make([]float32, len(s.mean))
	s.noise.fill(g, class, round, i)
	x := slices.Clone(s.mean)
	for row, v := range g {
		for col := row; col < len(x); col++ {
			x[col] += float64(float64(v) * s.upper.Data[row*s.upper.Stride+col])
		}
	}
	return x
}
