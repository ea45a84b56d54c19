package score

import (
	"math"
	"slices"
	"sort"
)

// Quantiles are n+1 quantiles of values, from the smallest to the largest, evenly spaced.
func Quantiles(values []float64, n int) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	out := make([]float64, n+1)
	for i := range out {
		out[i] = quantile(sorted, float64(i)/float64(n))
	}
	return out
}

// Shift says how far a window of scores lies from a calibration.
type Shift struct {
	PSI    float64 // population stability index over the bins
	KS     float64 // largest difference of the distribution functions at the edges of the bins
	PValue float64 // chance of such a KS without a shift
}

// Bin is the bin that a score falls into: the first whose upper edge it does not exceed, the last one beyond all edges.
// edges rise, one fewer than there are bins.
func Bin(edges []float64, score float64) int {
	return sort.Search(len(edges), func(i int) bool { return score <= edges[i] })
}

// ShiftOf compares how many scores of a window lie in each bin with how many of a calibration do. Where one of them has
// none in a bin that the other has, it counts as half a picture. The p-value is that of the two-sample test of
// Kolmogorov and Smirnov (asymptotic, after Stephens 1970); the bins make it careful, as the largest difference may lie
// inside one.
func ShiftOf(window, calibration []int) Shift {
	var n, m float64
	for i := range window {
		n, m = n+float64(window[i]), m+float64(calibration[i])
	}
	if n == 0 || m == 0 {
		return Shift{PValue: 1}
	}
	var s Shift
	var below, want float64
	for i := range window {
		below, want = below+float64(window[i])/n, want+float64(calibration[i])/m
		s.KS = max(s.KS, math.Abs(below-want))
		if window[i] == 0 && calibration[i] == 0 {
			continue
		}
		p, q := max(float64(window[i]), 0.5)/n, max(float64(calibration[i]), 0.5)/m
		s.PSI += (p - q) * math.Log(p/q)
	}
	root := math.Sqrt(n * m / (n + m))
	s.PValue = kolmogorov((root + 0.12 + 0.11/root) * s.KS)
	return s
}

// kolmogorov is the chance that the limit of √n·KS exceeds x.
func kolmogorov(x float64) float64 {
	if x < 0.2 {
		return 1
	}
	var sum float64
	for k := 1; k <= 100; k++ {
		term := 2 * math.Exp(-2*float64(k*k)*x*x)
		if k%2 == 0 {
			term = -term
		}
		sum += term
	}
	return min(max(sum, 0), 1)
}
