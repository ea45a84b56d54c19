package simd

//go:generate go -C ../../tools/asm run ./simd -out ../../internal/simd/vector_amd64.s -stubs ../../internal/simd/vector_amd64.go -pkg simd

func reaches(set Set, a, b []float32, t float32, k int) bool {
	n, spare := len(a), len(a)-k
	if set == Portable || spare < 0 || spare >= n {
		return portableReaches(a, b, t, k)
	}
	b = b[:n]
	switch set {
	case AVX512:
		return avx512Reaches(&a[0], &b[0], n, t, spare)
	case AVX2:
		return avx2Reaches(&a[0], &b[0], n, t, spare)
	default:
		return sse2Reaches(&a[0], &b[0], n, t, spare)
	}
}

func countAtLeast(set Set, s []float32, t float32) int {
	switch {
	case set == Portable || len(s) == 0:
		return portableCountAtLeast(s, t)
	case set == AVX512:
		return len(s) - avx512Below(&s[0], len(s), t)
	case set == AVX2:
		return len(s) - avx2Below(&s[0], len(s), t)
	default:
		return len(s) - sse2Below(&s[0], len(s), t)
	}
}

func scaleSquares(set Set, v []float32, factor float32) float64 {
	var partials [16]float64
	if rounds := len(v) / 16; set != Portable && rounds > 0 {
		switch set {
		case AVX512:
			avx512ScaleSquares(&v[0], rounds, factor, &partials)
		case AVX2:
			avx2ScaleSquares(&v[0], rounds, factor, &partials)
		default:
			sse2ScaleSquares(&v[0], rounds, factor, &partials)
		}
		v = v[16*rounds:]
	}
	return portableScaleSquares(v, factor, &partials)
}
