package simd

func reaches(set Set, a, b []float32, t float32, k int) bool {
	n, spare := len(a), len(a)-k
	if set == Portable || spare < 0 || spare >= n {
		return portableReaches(a, b, t, k)
	}
	b = b[:n]
	return neonReaches(&a[0], &b[0], n, t, spare)
}

func countAtLeast(set Set, s []float32, t float32) int {
	if set == Portable || len(s) == 0 {
		return portableCountAtLeast(s, t)
	}
	return len(s) - neonBelow(&s[0], len(s), t)
}

func scaleSquares(set Set, v []float32, factor float32) float64 {
	var partials [16]float64
	if rounds := len(v) / 16; set != Portable && rounds > 0 {
		neonScaleSquares(&v[0], rounds, factor, &partials)
		v = v[16*rounds:]
	}
	return portableScaleSquares(v, factor, &partials)
}
