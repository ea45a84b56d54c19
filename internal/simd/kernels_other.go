//go:build !amd64 && !arm64

package simd

func reaches(_ Set, a, b []float32, t float32, k int) bool { return portableReaches(a, b, t, k) }

func countAtLeast(_ Set, s []float32, t float32) int { return portableCountAtLeast(s, t) }

func scaleSquares(_ Set, v []float32, factor float32) float64 {
	return portableScaleSquares(v, factor, new([16]float64))
}
