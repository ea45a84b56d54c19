package sampler

import (
	"sync/atomic"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/simd"
)

const (
	// stripedRows is the size of a bank from which on the sums of one candidate do
	// not stay in a cache, so that candidates are counted a stripe at a time.
	stripedRows = 1 << 16
	// stripe is the number of rows of the bank in a stripe: their products with some
	// hundred points and one noise fit a second-level cache.
	stripe = 2048
)

// tellOff marks the candidates of a block that cannot win their contests by the
// thresholds as they stand. It is what [contest.mayWin] says one by one, but goes
// through the products once. contestOf names the contest of candidate (i, g), or
// nil where it takes part in none.
func (b *block) tellOff(contestOf func(i, g int) *contest) {
	type task struct {
		*contest
		limit float32
	}
	points, noises := len(b.points), len(b.bounds)
	tasks, counts := make([]task, points*noises), make([]atomic.Int64, points*noises)
	for i, source := range b.points {
		for g := range noises {
			if c := contestOf(i, g); c != nil {
				if t, known := c.limit(source, b.toNoises.Row(g), &b.bounds[g]); known {
					tasks[i*noises+g] = task{c, t}
				}
			}
		}
	}
	rows := b.toNoises.Cols
	matrix.Each((rows+stripe-1)/stripe, 0, func(s int) {
		from, to := s*stripe, min((s+1)*stripe, rows)
		room := make([]float32, to-from)
		for g := range noises {
			toNoise := b.toNoises.Row(g)[from:to]
			for i := range points {
				t, count := tasks[i*noises+g], &counts[i*noises+g]
				if t.contest == nil || count.Load() >= int64(t.k) {
					continue
				}
				simd.Sum(room, b.toPoints.Row(i)[from:to], toNoise)
				count.Add(int64(simd.CountAtLeast(room, t.limit)))
			}
		}
	})
	b.out = make([]bool, points*noises)
	for x, t := range tasks {
		b.out[x] = t.contest != nil && !t.wins(counts[x].Load() >= int64(t.k))
	}
}
