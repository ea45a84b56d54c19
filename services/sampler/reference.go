package sampler

import (
	"context"

	"github.com/dreamood/dreamood/internal/matrix"
)

// # Mode "reference"
//
// The published code (deeplearning-wisc/dream-ood, and NPOS with the same lines)
// stores the candidates of a round point after point: candidate (i, g) of picked
// point i and noise g of G is number f = i·G + g. It then views their K-th
// distances as a matrix of G rows, so that with P points number f stands in row
// f/P and column f mod P, takes the best Keep of every column, and returns for a
// row r of column i candidate number i·G + r, which is (i, r): another one than
// the one that was compared. The right view has one row per point.
//
// With one candidate kept per point it drops an axis of length one on the way and
// takes all its picks from point 0.
//
// The mode repeats this index for index. Group i is column i. What is reported
// about an outlier (its K-th distance above all) is true of the candidate that is
// returned. The picked points and the noises come from this package's streams, or
// the noises from the input; the published code draws both without a seed. Its
// order of equal distances is left open by its libraries; here the smaller number
// goes first.

// scrambled tells whether the mode repeats the published code.
func (c *prepared) scrambled() bool { return c.params.Mode == ModeReference }

// offerColumns offers to contest i the candidates of column from+i, with noises
// [start, end) of the block.
func (b *block) offerColumns(contests []contest, from, start, end int, p Params) {
	matrix.Each(len(contests), 0, func(column int) {
		room := make([]float32, b.toNoises.Cols)
		for i := range b.points {
			number := (b.first+i)*p.Noises + b.noise // of the candidate with the first noise of the block
			skip := (from + column - (number+start)%p.Pick + p.Pick) % p.Pick
			for g := start + skip; g < end; g += p.Pick {
				b.offer(&contests[column], i, g, number+g, b.toNoises.Row(g), room)
			}
		}
	})
}

// returned puts in place of the candidates that won columns from, from+1, … those
// that the published code returns for them.
func (c *prepared) returned(ctx context.Context, s *scratch, class uint32, round int, points []int, from int, won [][]candidate, at block) ([][]candidate, error) {
	var refs []ref
	for column, kept := range won {
		for _, k := range kept {
			r := ref{point: from + column, noise: k.order / c.params.Pick}
			if c.params.Keep == 1 {
				r.point = 0
			}
			refs = append(refs, r)
		}
	}
	distances, err := c.distances(ctx, s, class, round, points, refs, at)
	if err != nil {
		return nil, err
	}
	for i, r := range refs {
		won[i/c.params.Keep][i%c.params.Keep] = candidate{source: points[r.point], noise: r.noise, distance: distances[i]}
	}
	return won, nil
}
