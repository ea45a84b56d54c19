package simd

// neonReaches tells whether at most spare of the n sums a[j]+b[j] are below t.
// It asks for 0 <= spare < n.
//
//go:noescape
func neonReaches(a, b *float32, n int, t float32, spare int) bool

// neonBelow is how many of n numbers are below t.
//
//go:noescape
func neonBelow(a *float32, n int, t float32) int

// neonScaleSquares multiplies 16·rounds numbers by factor and sets partials to the sums of the
// squares of every sixteenth. A square of a float32 is exact in float64, so it may be fused.
//
//go:noescape
func neonScaleSquares(v *float32, rounds int, factor float32, partials *[16]float64)
