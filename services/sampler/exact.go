package sampler

import (
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/simd"
)

// # Exact decisions from float32 products
//
// A float32 product is summed in another order by every kernel, so its last
// bits depend on the CPU. Nothing that is decided here does: the float32 values
// only rule out what is certainly worse, and whatever they leave open is decided
// by sums in float64 of a fixed order ([matrix.Dot]; a product of two float32 is
// exact in float64, so it does not matter either whether a compiler fuses it).
//
// For a row x of the bank, a row b that noise is added to and a noise g, let
//
//	s = Dot(x, b) + Dot(x, g)    n² = Dot(b, b) + 2 Dot(b, g) + Dot(g, g)
//	d = (1 + Dot(x, x)) − 2 s/n
//
// in float64. d is the squared L2 distance of x to the candidate (b+g)/‖b+g‖, and
// the K-th smallest of a candidate's d is what candidates are compared by.
//
// Of s there is the float32 sum ŝ = x·b ⊕ x·g of two products. With u = 2⁻²⁴ and
// γ(m) = m·u/(1 − m·u), a sum of D products in any order, fused or not, is off by
// at most γ(D) Σ|xᵢ gᵢ| ≤ γ(D) ‖x‖‖g‖ (Higham, "Accuracy and Stability of
// Numerical Algorithms", section 3.1). The addition of the two makes it γ(D+1), a
// threshold for ŝ that is rounded to float32 γ(D+2), and one u more is far above
// what float64 sums of D < 2²⁷ terms and underflow lose:
//
//	|ŝ − s| ≤ γ(D+3) ‖x‖ (‖b‖ + ‖g‖).
//
// The same holds for one product of x with b ⊕ g. Rows of the bank have norms of
// at most 1 + 2⁻¹⁸ (see [toUnit]), which a factor of 1 + 2⁻¹⁶ covers. That
// Dot(x, x) is within δ of 1 but not 1 moves a distance by as much as a change of
// n·δ/2 in s does, and n ≤ ‖b‖ + ‖g‖. All together, with the margin
//
//	m = (γ(D+3) + δ/2) (1 + 2⁻¹⁶) (1 + ‖g‖),
//
// d lies within 2m/n of 2 − 2ŝ/n.

// unitRoundoff is that of float32.
const unitRoundoff = 0x1p-24

// relativeMargin is m/(1 + ‖g‖) for rows of dim numbers and a spread δ.
func relativeMargin(dim int, spread float64) float64 {
	m := float64(dim+3) * unitRoundoff
	return (m/(1-m) + spread/2) * (1 + 0x1p-16)
}

// bracket finds lo <= v < hi, at most width apart or neighbours, for the k-th
// largest v of sums, given any lo <= v < hi. It asks for counts only.
func bracket(sums []float32, k int, lo, hi float32, width float64) (float32, float32) {
	for float64(hi)-float64(lo) > width {
		mid := lo + (hi-lo)/2
		if mid <= lo || mid >= hi {
			break
		}
		if simd.CountAtLeast(sums, mid) >= k {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo, hi
}

// kthSmallest is the exact k-th smallest distance, where distance j falls with
// sums[j] but for an error of the sum of at most margin, the k-th largest sum is
// of [lo, hi), and distance(j) is the exact value. Only distances whose sum is
// too close to the k-th to tell are computed.
//
// Order statistics move by no more than their values do: the k-th largest exact
// sum is of [lo−margin, hi+margin], hence rows with a sum above hi+2·margin are
// certainly nearer than the k-th distance and rows below lo−2·margin farther.
func kthSmallest(sums []float32, k int, lo, hi float32, margin float64, distance func(j int) float64) float64 {
	bottom, top := float32(float64(lo)-2*margin), float32(float64(hi)+2*margin)
	nearer := 0
	var room [32]float64
	open := room[:0]
	for j, s := range sums {
		switch {
		case s > top:
			nearer++
		case s >= bottom:
			open = append(open, distance(j))
		}
	}
	slices.Sort(open)
	return open[k-nearer-1]
}

// kthWithin is the exact squared distance of row i to the k-th nearest row of the
// bank, itself counted; products is row i of the Gram matrix in float32. Equal
// rows are at distance 0.
func (b *unitBank) kthWithin(i, k int, products []float32) float64 {
	margin := b.margin
	lo, hi := bracket(products, k, -2, 2, margin/4)
	return kthSmallest(products, k, lo, hi, margin, func(j int) float64 {
		return b.squares[i] + b.squares[j] - 2*matrix.Dot(b.Row(i), b.Row(j))
	})
}

// kthOf is the exact squared distance of the unit vector along b+g, with b row i
// of the bank, to the k-th nearest row; sums is ŝ. It is false where g cancels b,
// so that there is no direction.
func (b *unitBank) kthOf(i int, g, sums []float32, k int) (float64, bool) {
	square := matrix.Dot(g, g)
	n2 := b.squares[i] + 2*matrix.Dot(b.Row(i), g) + square
	if n2 < 0x1p-40*(1+square) {
		return 0, false
	}
	norm, bounds := math.Sqrt(n2), b.bounds(square)
	lo, hi := bracket(sums, k, -bounds.reach, bounds.reach, bounds.margin/4)
	return kthSmallest(sums, k, lo, hi, bounds.margin, func(j int) float64 {
		s := matrix.Dot(b.Row(j), b.Row(i)) + matrix.Dot(b.Row(j), g)
		return 1 + b.squares[j] - 2*(s/norm)
	}), true
}

// noiseBounds are what the bounds above need of a noise.
type noiseBounds struct {
	square float64 // ‖g‖²
	margin float64 // m
	reach  float32 // larger than any |ŝ|
}

func (b *unitBank) bounds(square float64) noiseBounds {
	length := math.Sqrt(square)
	return noiseBounds{square: square, margin: b.margin * (1 + length), reach: float32(2 + 2*length)}
}
