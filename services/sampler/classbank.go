package sampler

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
)

// classBank is the bank of one class made ready for the methods that do not
// search among noisy copies of boundary points: it measures their samples.
type classBank struct {
	unit     *unitBank  // [N, D]
	index    *knn.Index // of unit
	boundary Boundary   // the method fills Selected
}

// newClassBank normalises a bank [N, D] and finds its K-th distances.
func newClassBank(ctx context.Context, bank matrix.Matrix, p Params) (*classBank, error) {
	unit, err := toUnit(bank)
	if err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	boundary, err := wholeBoundary(ctx, unit, p, farthest)
	if err != nil {
		return nil, err
	}
	index, err := knn.New(unit.Matrix, 0)
	if err != nil {
		return nil, err
	}
	return &classBank{unit: unit, index: index, boundary: boundary}, nil
}

// Boundary implements [Sampler].
func (c *classBank) Boundary() Boundary { return c.boundary }

// check reports a range that no method could sample.
func (c *classBank) check(r Range) error {
	if r.Offset < 0 || r.Count < 0 || r.Offset > math.MaxInt-r.Count {
		return fmt.Errorf("samples [%d, %d+%d) are no range", r.Offset, r.Offset, r.Count)
	}
	if r.Anchor != nil && len(r.Anchor) != c.unit.Cols {
		return fmt.Errorf("the anchor has %d dimensions and the bank %d", len(r.Anchor), c.unit.Cols)
	}
	return nil
}

// emit measures samples against the bank and yields them in order. They bring
// their indices and embeddings; those with a Source below 0, which started from
// no row of the bank, get the nearest row as their source, ties to the smaller.
func (c *classBank) emit(ctx context.Context, r Range, samples []Outlier, yield func(Outlier) error) error {
	queries := matrix.New(len(samples), c.unit.Cols)
	for i, o := range samples {
		copy(queries.Row(i), o.Embedding)
	}
	kth, err := c.index.KthDistances(ctx, queries, c.boundary.K)
	if err != nil {
		return err
	}
	nearest, err := c.index.Neighbours(ctx, queries, 1)
	if err != nil {
		return err
	}
	norm := matrix.Norm(r.Anchor)
	for i, o := range samples {
		if o.Source < 0 {
			o.Source = nearest[i][0].Index
		}
		o.Class, o.KthDistance, o.SourceKthDistance = r.Class, kth[i], c.boundary.KthDistances[o.Source]
		o.CosineToSource = float32(matrix.Dot(o.Embedding, c.unit.Row(o.Source)))
		if norm > 0 {
			o.CosineToAnchor = float32(matrix.Dot(o.Embedding, r.Anchor) / norm)
		}
		if err := yield(o); err != nil {
			return err
		}
	}
	return nil
}

// extreme are the n indices with the largest values, the largest first; ties go
// to the smaller index.
func extreme(values []float64, n int) []int {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(values[b], values[a]), cmp.Compare(a, b)) })
	return order[:n:n]
}

// embedding is the unit vector along v.
func embedding(v []float64) []float32 {
	norm := math.Sqrt(dot64(v, v))
	out := make([]float32, len(v))
	for j, x := range v {
		out[j] = float32(x / norm)
	}
	return out
}

// dot64 is the inner product of a and b, which is as long, in a fixed order and
// without fused operations.
func dot64(a, b []float64) float64 {
	var s float64
	for j, x := range a {
		s += float64(x * b[j])
	}
	return s
}

// gaussians are the standard normal vectors of a method: drawn, or brought along
// in [Input.Noise].
type gaussians struct {
	purpose  string
	seed     uint64
	perRound int
	given    matrix.Matrix // [rounds·perRound, D]; empty where they are drawn
}

// newGaussians checks what is brought along and copies it.
func newGaussians(purpose string, in Input, seed uint64, perRound int) (gaussians, error) {
	if err := checkNoise(in.Noise, perRound, in.Bank.Cols); err != nil {
		return gaussians{}, err
	}
	g := gaussians{purpose: purpose, seed: seed, perRound: perRound, given: in.Noise}
	g.given.Data = slices.Clone(g.given.Data)
	return g, nil
}

// check reports a range beyond the noise that was brought along, where a round
// gives keep samples.
func (g gaussians) check(r Range, keep int) error {
	if rounds := g.given.Rows / g.perRound; g.given.Rows > 0 && r.Offset+r.Count > rounds*keep {
		return fmt.Errorf("samples [%d, %d) are beyond the noise that was brought along: it has %d rounds of %d samples, %d in all; ask for fewer or bring more",
			r.Offset, r.Offset+r.Count, rounds, keep, rounds*keep)
	}
	return nil
}

// fill sets dst to vector i of a round: elements [i·D, (i+1)·D) of its stream.
func (g gaussians) fill(dst []float32, class uint32, round, i int) {
	if g.given.Rows > 0 {
		copy(dst, g.given.Row(round*g.perRound+i))
		return
	}
	key := philox.Key{Seed: g.seed, Purpose: g.purpose, Class: class, Index: uint64(round)}
	philox.NormalsAt(dst, key, uint64(i)*uint64(len(dst)))
}
