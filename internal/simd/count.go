package simd

// Reaches tells whether at least k of the sums a[j]+b[j], rounded to float32,
// are no less than t. It stops as soon as that is decided. b is at least as long
// as a; t and all sums are finite.
func Reaches(a, b []float32, t float32, k int) bool { return reaches(level, a, b, t, k) }

// CountAtLeast is how many of s are no less than t. t and s are finite.
func CountAtLeast(s []float32, t float32) int { return countAtLeast(level, s, t) }

// Sum sets dst[j] = a[j]+b[j]; the three are of one length.
func Sum(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for j := range dst {
		dst[j] = a[j] + b[j]
	}
}

// ScaleSquares multiplies v by factor and returns the sum of the squares of
// the results. Squares are exact in float64; number j goes to partial sum
// j mod 16, and the partial sums are added pairwise: i and i+8, then i and i+4,
// i and i+2, and the last two.
func ScaleSquares(v []float32, factor float32) float64 { return scaleSquares(level, v, factor) }
