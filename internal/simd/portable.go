package simd

import "math"

// portableReaches counts sign bits instead of branching, and looks at the count
// now and then.
func portableReaches(a, b []float32, t float32, k int) bool {
	const stretch = 64
	t = negativeZero(t)
	left, spare := len(a), len(a)-k // more than spare sums below t decide it
	for spare >= 0 && spare < left {
		n := min(stretch, left)
		x, y := a[:n:n], b[:n:n]
		a, b = a[n:], b[n:]
		var lower, lower2 uint32
		j := 0
		for ; j+1 < len(x) && j+1 < len(y); j += 2 {
			lower += math.Float32bits(x[j]+y[j]-t) >> 31
			lower2 += math.Float32bits(x[j+1]+y[j+1]-t) >> 31
		}
		if j < len(x) {
			lower += math.Float32bits(x[j]+y[j]-t) >> 31
		}
		spare -= int(lower + lower2)
		left -= n
	}
	return spare >= 0
}

func portableCountAtLeast(s []float32, t float32) int {
	t = negativeZero(t)
	n := len(s)
	for _, v := range s {
		n -= int(math.Float32bits(v-t) >> 31)
	}
	return n
}

// negativeZero is t, a zero with its sign set: so -0 - t is +0, which is not
// below.
func negativeZero(t float32) float32 {
	if t == 0 {
		return float32(math.Copysign(0, -1))
	}
	return t
}

// portableScaleSquares adds what partials already holds, so that it also takes
// the tail of a vector; the length of what came before is a multiple of 16.
func portableScaleSquares(v []float32, factor float32, partials *[16]float64) float64 {
	for j := range v {
		v[j] *= factor
		x := float64(v[j])
		partials[j%16] += float64(x * x)
	}
	for half := 8; half > 0; half /= 2 {
		for i := range half {
			partials[i] += partials[i+half]
		}
	}
	return partials[0]
}
