package sampler

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/dreamood/dreamood/internal/matrix"
)

// maxNoise bounds the magnitude of one number of noise, sigma included or not:
// far beyond any that is drawn, and far below what float32 sums cannot hold.
const maxNoise = 1e6

// prepared is a class made ready: the work of [KNN] and [Inlier].
//
// One matrix product serves all candidates of a round. For unit rows x of the
// bank, a boundary point b and a noise g (sigma included),
//
//	cos(x, b+g) = (x·b + x·g) / ‖b+g‖,  ‖b+g‖² = ‖b‖² + 2 b·g + ‖g‖²,
//
// and x·g is shared by all boundary points. The K-th squared distance of a
// candidate is 2 − 2s, with s its K-th largest cosine. A candidate that cannot
// beat the ones kept so far is recognised by counting how many of its cosines
// reach a threshold (contest.go); the few others are decided in float64 (exact.go),
// so what is kept depends on the request alone and not on the CPU.
type prepared struct {
	params    Params
	direction direction
	bank      *unitBank
	given     matrix.Matrix // noise brought along, [rounds·Noises, D], or no rows
	boundary  Boundary
	ofSource  map[int]float32 // K-th distances of the boundary's rows
	rooms     sync.Pool       // *scratch, of earlier calls of Sample
}

// prepare validates, normalises the bank and finds the boundary.
func prepare(ctx context.Context, in Input, p Params, d direction) (Sampler, error) {
	if err := p.Validate(in.Bank.Rows, in.Bank.Cols); err != nil {
		return nil, err
	}
	if err := checkNoise(in.Noise, p.Noises, in.Bank.Cols); err != nil {
		return nil, err
	}
	bank, err := toUnit(in.Bank)
	if err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	boundary, err := findBoundary(ctx, bank, p, d)
	if err != nil {
		return nil, err
	}
	ofSource := make(map[int]float32, len(boundary.Selected))
	for i, row := range boundary.Selected {
		ofSource[row] = boundary.SelectedDistances[i]
	}
	return &prepared{params: p, direction: d, bank: bank, given: in.Noise, boundary: boundary, ofSource: ofSource}, nil
}

// checkNoise reports noise that was brought along and is not [rounds·noises, dim]
// of usable numbers. No noise is fine.
func checkNoise(m matrix.Matrix, noises, dim int) error {
	if m.Rows == 0 && len(m.Data) == 0 {
		return nil
	}
	bad := func(format string, args ...any) error { return Problems{{"noise", fmt.Sprintf(format, args...)}} }
	if m.Cols != dim || m.Rows%noises != 0 {
		return bad("has shape [%d, %d]; with %d noises per round and a bank of %d dimensions it must be [rounds·%d, %d]", m.Rows, m.Cols, noises, dim, noises, dim)
	}
	if err := m.Check(); err != nil {
		return bad("%v", err)
	}
	for i, v := range m.Data {
		if v > maxNoise || v < -maxNoise {
			return bad("row %d, column %d is %v; bring standard normal numbers, sigma is applied to them", i/m.Cols, i%m.Cols, v)
		}
	}
	return nil
}

// Boundary implements [Sampler].
func (c *prepared) Boundary() Boundary { return c.boundary }

// Sample implements [Sampler]. It computes the rounds that the range touches,
// and of those only the groups of candidates that it touches; after every round it
// yields, so the first samples come at once. Its memory does not grow with the
// range.
func (c *prepared) Sample(ctx context.Context, r Range, yield func(Outlier) error) error {
	if err := c.check(r); err != nil {
		return err
	}
	per, keep := c.params.PerRound(), c.params.Keep
	s, _ := c.rooms.Get().(*scratch)
	if s == nil {
		s = c.newScratch()
	}
	defer c.rooms.Put(s)
	for at, end := r.Offset, r.Offset+r.Count; at < end; {
		round := at / per
		from, to := at-round*per, min(end-round*per, per)
		group := from / keep
		kept, err := c.round(ctx, s, r.Class, round, group, (to-1)/keep+1)
		if err != nil {
			return err
		}
		outliers := make([]Outlier, to-from)
		matrix.Each(len(outliers), 0, func(i int) {
			of := from + i
			outliers[i] = c.outlier(r, round, kept[of/keep-group][of%keep])
			outliers[i].Index, outliers[i].Rank = round*per+of, of%keep
		})
		for _, o := range outliers {
			if err := yield(o); err != nil {
				return err
			}
		}
		at = round*per + to
	}
	return nil
}

// check reports a range that cannot be sampled.
func (c *prepared) check(r Range) error {
	if r.Offset < 0 || r.Count < 0 || r.Offset > math.MaxInt-r.Count {
		return fmt.Errorf("samples [%d, %d+%d) are no range", r.Offset, r.Offset, r.Count)
	}
	if dim := c.bank.Cols; r.Anchor != nil && len(r.Anchor) != dim {
		return fmt.Errorf("the anchor has %d dimensions and the bank %d", len(r.Anchor), dim)
	}
	if rounds, per := c.given.Rows/c.params.Noises, c.params.PerRound(); rounds > 0 && r.Offset+r.Count > rounds*per {
		return fmt.Errorf("samples [%d, %d) are beyond the noise that was brought along: it has %d rounds of %d samples, %d in all; ask for fewer or bring more",
			r.Offset, r.Offset+r.Count, rounds, per, rounds*per)
	}
	return nil
}

// outlier builds the embedding of a kept candidate, in float64. The conversions
// keep compilers from fusing what must be the same on every CPU.
func (c *prepared) outlier(r Range, round int, k candidate) Outlier {
	source, noise := c.bank.Row(k.source), make([]float32, c.bank.Cols)
	c.noise(noise, r.Class, round, k.noise)
	var square float64
	for j, v := range source {
		sum := float64(v) + float64(noise[j])
		square += float64(sum * sum)
	}
	norm := math.Sqrt(square)
	embedding := noise
	for j, v := range source {
		embedding[j] = float32((float64(v) + float64(noise[j])) / norm)
	}
	o := Outlier{
		Class: r.Class, Round: round, Source: k.source, NoiseIndex: k.noise,
		Embedding:         embedding,
		KthDistance:       float32(max(0, k.distance)),
		SourceKthDistance: c.ofSource[k.source],
		CosineToSource:    float32(matrix.Dot(embedding, source)),
	}
	if norm := matrix.Norm(r.Anchor); norm > 0 {
		o.CosineToAnchor = float32(matrix.Dot(embedding, r.Anchor) / norm)
	}
	return o
}
