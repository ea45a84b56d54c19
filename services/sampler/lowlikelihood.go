package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
)

// productBytes bounds the product of noises and bank that is held at once; more
// noises than fit are taken in several portions.
const productBytes = 64 << 20

// prepared is a class made ready: the work of [KNN] and [Inlier].
//
// One matrix product serves all candidates of a round. For unit rows x of the
// bank, a boundary point b and a noise g,
//
//	cos(x, b+σg) = (x·b + σ x·g) / ‖b + σg‖,  ‖b + σg‖² = ‖b‖² + 2σ b·g + σ²‖g‖²,
//
// and x·g is shared by all boundary points. The K-th distance of a candidate is
// 2 − 2s, with s its K-th largest cosine. A candidate that cannot beat the ones
// kept so far is recognised by counting how many of its cosines reach a
// threshold; only the few others need s itself.
type prepared struct {
	params    Params
	direction direction
	unit      matrix.Matrix  // [N, D], rows of unit norm
	packed    *matrix.Packed // the same
	boundary  Boundary
}

// prepare validates, normalises the bank and finds the boundary.
func prepare(ctx context.Context, in Input, p Params, d direction) (Sampler, error) {
	if err := p.Validate(in.Bank.Rows, in.Bank.Cols); err != nil {
		return nil, err
	}
	unit, err := in.Bank.Normalised()
	if err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	boundary, err := findBoundary(ctx, unit, p, d)
	if err != nil {
		return nil, err
	}
	return &prepared{params: p, direction: d, unit: unit, packed: matrix.Pack(unit), boundary: boundary}, nil
}

// Boundary implements [Sampler].
func (c *prepared) Boundary() Boundary { return c.boundary }

// Sample implements [Sampler]. It computes the rounds that the range touches,
// and of those only the boundary points that it touches.
func (c *prepared) Sample(ctx context.Context, r Range, yield func(Outlier) error) error {
	if r.Offset < 0 || r.Count < 0 || r.Offset > math.MaxInt-r.Count {
		return fmt.Errorf("samples [%d, %d+%d) are no range", r.Offset, r.Offset, r.Count)
	}
	if r.Anchor != nil && len(r.Anchor) != c.unit.Cols {
		return fmt.Errorf("the anchor has %d dimensions and the bank %d", len(r.Anchor), c.unit.Cols)
	}
	per := c.params.PerRound()
	for at, end := r.Offset, r.Offset+r.Count; at < end; {
		round := at / per
		from, to := at-round*per, min(end-round*per, per)
		points := c.picked(r.Class, round)[from/c.params.Keep : (to-1)/c.params.Keep+1]
		kept, err := c.round(ctx, r.Class, round, points)
		if err != nil {
			return err
		}
		for ; from < to; from++ {
			rank := from % c.params.Keep
			k := kept[from/c.params.Keep-(at-round*per)/c.params.Keep][rank]
			o := c.outlier(r, round, k)
			o.Index, o.Rank = round*per+from, rank
			if err := yield(o); err != nil {
				return err
			}
		}
		at = round*per + to
	}
	return nil
}

// key names the random draws of one round.
func (c *prepared) key(purpose string, class uint32, round int) philox.Key {
	return philox.Key{Seed: c.params.Seed, Purpose: purpose, Class: class, Index: uint64(round)}
}

// picked are the rows of the bank that a round starts from.
func (c *prepared) picked(class uint32, round int) []int {
	rows := philox.Choose(len(c.boundary.Selected), c.params.Pick, c.key("sampler.pick", class, round))
	for i, s := range rows {
		rows[i] = c.boundary.Selected[s]
	}
	return rows
}

// noise fills rows with the noises [from, from+rows.Rows) of a round, times
// sigma. Noise g is elements [g·D, (g+1)·D) of the round's stream.
func (c *prepared) noise(rows *matrix.Packed, class uint32, round, from int) {
	key, sigma := c.key("sampler.noise", class, round), float32(c.params.Sigma)
	matrix.Each(rows.Rows, 0, func(i int) {
		row := rows.Row(i)
		philox.NormalsAt(row, key, uint64(from+i)*uint64(rows.Cols))
		for j := range row {
			row[j] *= sigma
		}
	})
}

// candidate is a noisy copy of a row of the bank.
type candidate struct {
	source, noise int
	cosine        float32 // K-th largest to the rows of the bank
}

// round finds for every point (a row of the bank) the best Keep candidates of
// one round, best first.
func (c *prepared) round(ctx context.Context, class uint32, round int, points []int) ([][]candidate, error) {
	n, p := c.unit.Rows, c.params
	starts := matrix.NewPacked(len(points), c.unit.Cols)
	kept := make([][]candidate, len(points))
	for i, row := range points {
		copy(starts.Row(i), c.unit.Row(row))
		kept[i] = make([]candidate, 0, p.Keep)
	}
	toStarts := matrix.New(len(points), n) // x·b
	matrix.MulT(toStarts, starts, c.packed, 0)

	portion := min(p.Noises, max(1, productBytes/(4*n)))
	noises, products := matrix.NewPacked(portion, c.unit.Cols), matrix.New(portion, n)
	for from := 0; from < p.Noises; from += portion {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		m := min(portion, p.Noises-from)
		part := noises.Slice(0, m)
		c.noise(part, class, round, from)
		toNoises := matrix.Matrix{Rows: m, Cols: n, Data: products.Data[:m*n]} // σ x·g
		matrix.MulT(toNoises, part, c.packed, 0)
		squares := make([]float64, m)
		for g := range squares {
			squares[g] = matrix.Dot(part.Row(g), part.Row(g))
		}
		matrix.Each(len(points), 0, func(i int) {
			kept[i] = c.better(kept[i], points[i], toStarts.Row(i), toNoises, squares, from)
		})
	}
	return kept, context.Cause(ctx)
}

// better merges the candidates of one point and a portion of the noises into
// kept: toStart is x·b [N], toNoises σ x·g [G, N], squares σ²‖g‖² [G], and the
// portion starts at noise from. Ties go to the smaller noise index.
func (c *prepared) better(kept []candidate, source int, toStart []float32, toNoises matrix.Matrix, squares []float64, from int) []candidate {
	k, keep := c.params.K, c.params.Keep
	sums := make([]float32, len(toStart))
	for g, square := range squares {
		d := toNoises.Row(g)
		norm := float32(math.Sqrt(float64(toStart[source]) + 2*float64(d[source]) + square))
		if len(kept) == keep && !c.mayBeat(kept[keep-1].cosine, norm, toStart, d) {
			continue
		}
		for j, v := range toStart {
			sums[j] = v + d[j]
		}
		kept = c.insert(kept, candidate{source: source, noise: from + g, cosine: knn.KthLargest(sums, k) / norm})
	}
	return kept
}

// mayBeat tells whether the candidate with cosines (toStart + toNoise)/norm may
// have a better K-th cosine than worst. It never says no to one that has: the
// threshold is rounded away from the decision.
func (c *prepared) mayBeat(worst, norm float32, toStart, toNoise []float32) bool {
	if c.direction == nearest {
		return reaches(toStart, toNoise, math.Nextafter32(worst*norm, float32(math.Inf(-1))), c.params.K)
	}
	return !reaches(toStart, toNoise, math.Nextafter32(worst*norm, float32(math.Inf(1))), c.params.K)
}

// insert puts x among kept, best first, and drops what exceeds Keep. Candidates
// come in order of their noise index, so an equal one goes behind.
func (c *prepared) insert(kept []candidate, x candidate) []candidate {
	at := len(kept)
	for at > 0 && (c.direction == nearest && x.cosine > kept[at-1].cosine || c.direction == farthest && x.cosine < kept[at-1].cosine) {
		at--
	}
	if at == c.params.Keep {
		return kept
	}
	if len(kept) < c.params.Keep {
		kept = append(kept, candidate{})
	}
	copy(kept[at+1:], kept[at:])
	kept[at] = x
	return kept
}

// outlier builds the embedding of a kept candidate, in float64.
func (c *prepared) outlier(r Range, round int, k candidate) Outlier {
	row := matrix.NewPacked(1, c.unit.Cols)
	c.noise(row, r.Class, round, k.noise)
	source, noise := c.unit.Row(k.source), row.Row(0)
	sum := make([]float64, len(source))
	var square float64
	for j, v := range source {
		sum[j] = float64(v) + float64(noise[j])
		square += sum[j] * sum[j]
	}
	embedding := make([]float32, len(source))
	for j, v := range sum {
		embedding[j] = float32(v / math.Sqrt(square))
	}
	o := Outlier{
		Class: r.Class, Round: round, Source: k.source, NoiseIndex: k.noise,
		Embedding:         embedding,
		KthDistance:       max(0, 2-2*k.cosine),
		SourceKthDistance: c.boundary.KthDistances[k.source],
		CosineToSource:    float32(matrix.Dot(embedding, source)),
	}
	if norm := matrix.Norm(r.Anchor); norm > 0 {
		o.CosineToAnchor = float32(matrix.Dot(embedding, r.Anchor) / norm)
	}
	return o
}

// reaches tells whether at least k of the sums a[j]+b[j] are no less than t. It
// counts sign bits instead of branching, and looks at the count now and then.
func reaches(a, b []float32, t float32, k int) bool {
	const stretch = 64
	left, below := len(a), len(a)-k // more than this many below t decide it
	for left > 0 {
		n := min(stretch, left)
		x, y := a[:n:n], b[:n:n]
		a, b = a[n:], b[n:]
		var lower, lower2 uint32
		j := 0
		for ; j+1 < len(x) && j+1 < len(y); j += 2 {
			lower += math.Float32bits(x[j]+y[j]-t) >> 31
			lower2 += math.Float32bits(x[j+1]+y[j+1]-t) >> 31
		}
		if j < len(x) {
			lower += math.Float32bits(x[j]+y[j]-t) >> 31
		}
		below -= int(lower + lower2)
		left -= n
		if below < 0 {
			return false
		}
		if below >= left { // those left cannot change it
			return true
		}
	}
	return true
}
