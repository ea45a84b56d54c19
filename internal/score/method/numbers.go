package method

import (
	"math"
	"slices"
)

func sqrt(v float64) float64 { return math.Sqrt(v) }

// times multiplies v by a factor, in place.
func times(factor float64, v []float64) {
	for i := range v {
		v[i] *= factor
	}
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

func logSumExp(v []float64) float64 {
	top := slices.Max(v)
	var sum float64
	for _, x := range v {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}

func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// percentile of values, interpolated linearly as NumPy does; it sorts them.
func percentile(values []float32, p float64) float64 {
	slices.Sort(values)
	x := p / 100 * float64(len(values)-1)
	i := int(x)
	j := min(i+1, len(values)-1)
	return float64(values[i]) + (x-float64(i))*(float64(values[j])-float64(values[i]))
}
