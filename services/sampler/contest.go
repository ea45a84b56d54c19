package sampler

import (
	"cmp"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/simd"
)

// contender is a candidate, a noisy copy of a row of the bank, that may be among
// those kept. Its cost, of [low, high], is its K-th distance where small ones are
// sought and the negated one where large ones are.
type contender struct {
	ref
	order     int // of equal costs the smaller one wins
	low, high float64
}

// contest finds, among the candidates offered, all that may be among the keep of
// the least cost as far as float32 sums can tell. The order of the offers does not
// matter.
type contest struct {
	bank       *unitBank
	direction  direction
	k, keep    int
	contenders []contender // those with a small high first
	threshold              // once there are keep
}

// threshold tells candidates off that certainly cost more than keep contenders,
// whose K-th distances are within some L where small ones are sought, and at least
// L where large ones are. A K-th distance is within L if and only if the K-th
// largest s reaches n(1 − L/2), so the sums that reach that value, moved by the
// margin to the side of doubt, need only be counted.
type threshold struct {
	set    bool
	cosine float64 // 1 − L/2
	side   float64 // of doubt: 1 where distances above L are sought, −1 below
	slope  float64 // 2·side times the sign of cosine: n² is moved by as many margins
}

// limit is what the sums of the candidate from a row source of the bank have to be
// compared with; it is false while every candidate may win. n² comes from the
// float32 product b·g, which is off by less than the margin.
func (c *contest) limit(source int, toNoise []float32, g *noiseBounds) (float32, bool) {
	n2 := c.bank.squares[source] + 2*float64(toNoise[source]) + g.square
	if !c.set || n2 < 8*g.margin { // below, hardly anything is known about its direction
		return 0, false
	}
	return float32(c.cosine*math.Sqrt(n2+c.slope*g.margin) + c.side*g.margin), true
}

// wins tells whether a candidate may win of which at least k sums do, or do not,
// reach its limit.
func (c *contest) wins(reaches bool) bool { return reaches != (c.direction == farthest) }

// mayWin tells whether the candidate with the sums ŝ = toPoint[j] + toNoise[j] may
// still win.
func (c *contest) mayWin(source int, toPoint, toNoise []float32, g *noiseBounds) bool {
	t, known := c.limit(source, toNoise, g)
	return !known || c.wins(simd.Reaches(toPoint, toNoise, t, c.k))
}

// enter adds the candidate x and drops those that it rules out; room takes its
// sums.
func (c *contest) enter(x contender, source int, toPoint, toNoise []float32, g *noiseBounds, room []float32) {
	x.low, x.high = math.Inf(-1), math.Inf(1)
	if n2 := c.bank.squares[source] + 2*float64(toNoise[source]) + g.square; n2 >= 8*g.margin {
		simd.Sum(room, toPoint, toNoise)
		lo, hi := bracket(room, c.k, -g.reach, g.reach, g.margin/4)
		short, long := math.Sqrt(n2-2*g.margin), math.Sqrt(n2+2*g.margin)
		near := 2 - 2*quotient(float64(hi)+g.margin, short, long)
		far := 2 - 2*quotient(float64(lo)-g.margin, long, short)
		if x.low, x.high = near, far; c.direction == farthest {
			x.low, x.high = -far, -near
		}
	}
	at, _ := slices.BinarySearchFunc(c.contenders, x, func(a, b contender) int { return cmp.Compare(a.high, b.high) })
	c.contenders = slices.Insert(c.contenders, at, x)
	if len(c.contenders) < c.keep {
		return
	}
	limit := c.contenders[c.keep-1].high
	rest := slices.DeleteFunc(c.contenders[c.keep:], func(y contender) bool { return y.low > limit })
	c.contenders = c.contenders[:c.keep+len(rest)]
	c.threshold = threshold{set: true, cosine: 1 - limit/2, side: -1}
	if c.direction == farthest {
		c.threshold = threshold{set: true, cosine: 1 + limit/2, side: 1}
	}
	c.slope = 2 * c.side * math.Copysign(1, c.cosine)
}

// quotient is x/positive for x >= 0 and x/negative below.
func quotient(x, positive, negative float64) float64 {
	if x >= 0 {
		return x / positive
	}
	return x / negative
}
