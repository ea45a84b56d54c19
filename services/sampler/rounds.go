package sampler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/simd"
)

// ref names a candidate: element of the round's points and noise of the round.
type ref struct{ point, noise int }

// candidate is one that is kept.
type candidate struct {
	source, noise int     // row of the bank, noise of the round
	order         int     // in its contest
	distance      float64 // squared L2 of its direction to the K-th nearest row, exact
}

// scratch is the room that the rounds of one call of Sample use in turn.
type scratch struct {
	points   *matrix.Packed // [P, D], rows of the bank
	toPoints matrix.Matrix  // [P, N], x·b
	noises   *matrix.Packed // [G, D], sigma included
	toNoises matrix.Matrix  // [G, N], x·g
	bounds   []noiseBounds  // [G]
}

// newScratch makes room for the portions of any round.
func (c *prepared) newScratch() *scratch {
	n, d, portion := c.bank.Rows, c.bank.Cols, c.bank.portion()
	points, noises := min(c.params.Pick, portion), min(c.params.Noises, portion)
	return &scratch{
		points: matrix.NewPacked(points, d), toPoints: matrix.New(points, n),
		noises: matrix.NewPacked(noises, d), toNoises: matrix.New(noises, n),
		bounds: make([]noiseBounds, noises),
	}
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

// noise fills dst with noise g of a round, times sigma, and returns its bounds.
// Noise g is elements [g·D, (g+1)·D) of the round's stream, or row
// round·Noises + g of the noise that was brought along.
func (c *prepared) noise(dst []float32, class uint32, round, g int) noiseBounds {
	sigma := float32(c.params.Sigma)
	if c.given.Rows > 0 {
		copy(dst, c.given.Row(round*c.params.Noises+g))
		return c.bank.bounds(simd.ScaleSquares(dst, sigma))
	}
	return c.bank.bounds(philox.ScaledNormalsAt(dst, c.key("sampler.noise", class, round), uint64(g)*uint64(len(dst)), sigma))
}

// block is the candidates of some points and some noises of a round.
type block struct {
	points   []int          // rows of the bank
	first    int            // element of the round's points that points[0] is
	toPoints matrix.Matrix  // [points, N], x·b
	noise    int            // noise of the round that the first one is
	noises   *matrix.Packed // [noises, D], sigma included
	bounds   []noiseBounds
	toNoises matrix.Matrix // [noises, N], x·g
	out      []bool        // [points, noises], those that need not be offered; nil: none
}

// offer enters candidate (i, g) of the block in a contest if it may win; toNoise is
// row g of toNoises.
func (b *block) offer(c *contest, i, g, order int, toNoise, room []float32) {
	if b.out != nil && b.out[i*len(b.bounds)+g] {
		return
	}
	source, toPoint, bounds := b.points[i], b.toPoints.Row(i), &b.bounds[g]
	if c.mayWin(source, toPoint, toNoise, bounds) {
		c.enter(contender{ref: ref{b.first + i, b.noise + g}, order: order}, source, toPoint, toNoise, bounds, room)
	}
}

// contests holds the candidates of points, rows of the bank, against each other,
// in a contest for each of the groups [from, to). It returns what may be kept of
// each, and the block that was last at hand.
func (c *prepared) contests(ctx context.Context, s *scratch, class uint32, round int, points []int, from, to int) ([]contest, block, error) {
	all := make([]contest, to-from)
	for i := range all {
		all[i] = contest{bank: c.bank, direction: c.direction, k: c.params.K, keep: c.params.Keep}
	}
	var b block
	for b.first = 0; b.first < len(points); b.first += s.points.Rows {
		b.points = points[b.first:min(b.first+s.points.Rows, len(points))]
		for i, row := range b.points {
			copy(s.points.Row(i), c.bank.Row(row))
		}
		b.toPoints = c.bank.product(s.toPoints, s.points.Slice(0, len(b.points)))
		for b.noise = 0; b.noise < c.params.Noises; b.noise += s.noises.Rows {
			if err := context.Cause(ctx); err != nil {
				return nil, b, err
			}
			m := min(s.noises.Rows, c.params.Noises-b.noise)
			b.noises, b.bounds = s.noises.Slice(0, m), s.bounds[:m]
			matrix.Each(m, 0, func(g int) { b.bounds[g] = c.noise(b.noises.Row(g), class, round, b.noise+g) })
			b.toNoises = c.bank.product(s.toNoises, b.noises)
			lead := 0
			if b.out = nil; c.bank.striped {
				if b.noise == 0 { // a few first, for the thresholds
					lead = min(8*c.params.Keep, m)
					c.offer(all, from, &b, 0, lead)
				}
				b.tellOff(func(i, g int) *contest { return c.contestOf(all, from, b.first+i, b.noise+g) })
			}
			c.offer(all, from, &b, lead, m)
		}
	}
	return all, b, nil
}

// contestOf is the contest of a candidate of the round, or nil where its group is
// not among those held, which begin with group from.
func (c *prepared) contestOf(all []contest, from, point, noise int) *contest {
	if !c.scrambled() {
		return &all[point]
	}
	if column := (point*c.params.Noises+noise)%c.params.Pick - from; column >= 0 && column < len(all) {
		return &all[column]
	}
	return nil
}

// offer offers the candidates with noises [start, end) of a block to their
// contests.
func (c *prepared) offer(all []contest, from int, b *block, start, end int) {
	if c.scrambled() {
		b.offerColumns(all, from, start, end, c.params)
	} else {
		b.offerPoints(all[b.first:b.first+len(b.points)], start, end)
	}
}

// offerPoints offers to contest i the candidates of point i. A few points at a
// time share a row of the products while it is at hand.
func (b *block) offerPoints(contests []contest, start, end int) {
	together := max(1, min(8, len(contests)/(4*runtime.GOMAXPROCS(0))))
	matrix.Each((len(contests)+together-1)/together, 0, func(t int) {
		room := make([]float32, b.toNoises.Cols)
		for g := start; g < end; g++ {
			toNoise := b.toNoises.Row(g)
			for i := t * together; i < min((t+1)*together, len(contests)); i++ {
				b.offer(&contests[i], i, g, b.noise+g, toNoise, room)
			}
		}
	})
}

// distances are the exact squared distances of candidates of a round to their
// K-th nearest row of the bank. at is a block of the round that is at hand: where it
// holds the whole round, its products serve again.
func (c *prepared) distances(ctx context.Context, s *scratch, class uint32, round int, points []int, of []ref, at block) ([]float64, error) {
	out, problems := make([]float64, len(of)), make([]error, len(of))
	measure := func(i int, g, sums []float32) {
		source := points[of[i].point]
		d, ok := c.bank.kthOf(source, g, sums, c.params.K)
		if out[i] = d; !ok {
			problems[i] = fmt.Errorf("round %d: noise %d times sigma cancels row %d of the bank, which leaves no direction; bring other noise or another sigma", round, of[i].noise, source)
		}
	}
	if len(at.points) == len(points) && len(at.bounds) == c.params.Noises {
		matrix.Each(len(of), 0, func(i int) {
			sums := make([]float32, c.bank.Rows)
			simd.Sum(sums, at.toPoints.Row(of[i].point), at.toNoises.Row(of[i].noise))
			measure(i, at.noises.Row(of[i].noise), sums)
		})
		return out, errors.Join(problems...)
	}
	g := matrix.NewPacked(min(len(of), s.noises.Rows), s.noises.Cols)
	for from := 0; from < len(of); from += g.Rows {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		n := min(g.Rows, len(of)-from)
		matrix.Each(n, 0, func(i int) {
			c.noise(g.Row(i), class, round, of[from+i].noise)
			simd.Sum(s.noises.Row(i), c.bank.Row(points[of[from+i].point]), g.Row(i))
		})
		sums := c.bank.product(s.toNoises, s.noises.Slice(0, n))
		matrix.Each(n, 0, func(i int) { measure(from+i, g.Row(i), sums.Row(i)) })
	}
	return out, errors.Join(problems...)
}

// round finds, for groups [from, to) of one round, the Keep candidates of the
// least cost, best first. A group is the candidates of one picked point; see
// reference.go for the groups of the published code.
func (c *prepared) round(ctx context.Context, s *scratch, class uint32, round, from, to int) ([][]candidate, error) {
	points := c.picked(class, round)
	if !c.scrambled() {
		points = points[from:to]
	}
	all, last, err := c.contests(ctx, s, class, round, points, from, to)
	if err != nil {
		return nil, err
	}
	var open []ref
	for _, contest := range all {
		for _, x := range contest.contenders {
			open = append(open, x.ref)
		}
	}
	exact, err := c.distances(ctx, s, class, round, points, open, last)
	if err != nil {
		return nil, err
	}
	kept := make([][]candidate, len(all))
	for i, contest := range all {
		kept[i] = c.decide(contest.contenders, points, exact[:len(contest.contenders)])
		exact = exact[len(contest.contenders):]
	}
	if c.scrambled() {
		return c.returned(ctx, s, class, round, points, from, kept, last)
	}
	return kept, nil
}

// decide orders contenders by their exact distances and keeps the best.
func (c *prepared) decide(contenders []contender, points []int, distances []float64) []candidate {
	all := make([]candidate, len(contenders))
	for i, x := range contenders {
		all[i] = candidate{source: points[x.point], noise: x.noise, order: x.order, distance: distances[i]}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		byDistance := cmp.Compare(a.distance, b.distance)
		if c.direction == farthest {
			byDistance = -byDistance
		}
		return cmp.Or(byDistance, cmp.Compare(a.order, b.order))
	})
	return all[:c.params.Keep:c.params.Keep]
}
