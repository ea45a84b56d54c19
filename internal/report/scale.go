package report

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// scale maps values lo..hi linearly to user units from..to.
type scale struct{ lo, hi, from, to float64 }

// at is the place of v; values outside lo..hi are put on the nearer end.
func (s scale) at(v float64) float64 {
	v = min(max(v, s.lo), s.hi)
	return s.from + (v-s.lo)/(s.hi-s.lo)*(s.to-s.from)
}

// spread makes lo < hi, so that a scale over them can divide by their difference.
func spread(lo, hi float64) (float64, float64) {
	switch {
	case !finite(lo) || !finite(hi):
		return 0, 1
	case lo < hi:
		return lo, hi
	case lo == 0:
		return -1, 1
	}
	return lo - math.Abs(lo)/10, lo + math.Abs(lo)/10
}

// ticks returns about n round values within lo..hi, 1, 2 or 5 times a power of ten apart, and their labels, all with
// the digits that the step needs.
func ticks(lo, hi float64, n int) ([]float64, []string) {
	lo, hi = spread(lo, hi)
	raw := (hi - lo) / float64(max(n, 1))
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	switch f := raw / power; { // the nearest of 1, 2, 5 and 10 by ratio
	case f < math.Sqrt2:
		step = power
	case f < math.Sqrt(10):
		step = 2 * power
	case f < math.Sqrt(50):
		step = 5 * power
	}
	digits := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	var at []float64
	var labels []string
	for i := math.Ceil(lo/step - 1e-9); i*step <= hi+step*1e-9; i++ {
		at = append(at, i*step)
		labels = append(labels, tickLabel(i*step, digits))
		if len(at) > 50 { // a range too narrow for the step to move the value
			break
		}
	}
	return at, labels
}

// tickLabel formats a tick, in scientific form where the number is long.
func tickLabel(v float64, digits int) string {
	if a := math.Abs(v); a >= 1e6 || digits > 6 {
		return strings.Replace(strconv.FormatFloat(v, 'g', 3, 64), "-", "−", 1)
	}
	if v == 0 {
		v = 0 // no −0
	}
	if digits == 0 {
		return strings.Replace(count(int(math.Round(v))), "-", "−", 1)
	}
	return decimal(v, digits)
}

// extent is the smallest and the largest finite value; NaN when there is none.
func extent(values []float64) (lo, hi float64) {
	lo, hi = math.NaN(), math.NaN()
	for _, v := range values {
		if !finite(v) {
			continue
		}
		if !(lo <= v) {
			lo = v
		}
		if !(hi >= v) {
			hi = v
		}
	}
	return lo, hi
}

// numbers keeps the finite ones of values, as float64.
func numbers[T float32 | float64](values []T) []float64 {
	kept := make([]float64, 0, len(values))
	for _, v := range values {
		if finite(float64(v)) {
			kept = append(kept, float64(v))
		}
	}
	return kept
}

// quantile is the linearly interpolated q-quantile of the finite values; NaN when there is none.
func quantile(values []float64, q float64) float64 {
	sorted := numbers(values)
	if len(sorted) == 0 {
		return math.NaN()
	}
	slices.Sort(sorted)
	at := q * float64(len(sorted)-1)
	i := min(int(at), len(sorted)-1)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
