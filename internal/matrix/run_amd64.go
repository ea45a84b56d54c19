package matrix

import "github.com/dreamood/dreamood/internal/simd"

//go:generate go -C ../../tools/asm run ./matrix -out ../../internal/matrix/tile_amd64.s -stubs ../../internal/matrix/tile_amd64.go -pkg matrix

// run computes the tile into c, rows ldc numbers apart.
func (t *tile) run(c []float32, ldc int) {
	if t.set == simd.Portable {
		t.runPortable(c, ldc)
		return
	}
	a, b := t.operands(c, ldc)
	switch {
	case t.set == simd.AVX512 && t.rows == 12:
		avx512Rows12(t.k, a, t.lda, b, &c[0], ldc, t.start)
	case t.set == simd.AVX512 && t.rows == 4:
		avx512Rows4(t.k, a, t.lda, b, &c[0], ldc, t.start)
	case t.set == simd.AVX512:
		avx512Rows1(t.k, a, t.lda, b, &c[0], ldc, t.start)
	case t.set == simd.SSE2 && t.rows == 6:
		sse2Rows6(t.k, a, t.lda, b, &c[0], ldc, t.start)
	case t.set == simd.SSE2 && t.rows == 2:
		sse2Rows2(t.k, a, t.lda, b, &c[0], ldc, t.start)
	case t.set == simd.SSE2:
		sse2Rows1(t.k, a, t.lda, b, &c[0], ldc, t.start)
	case t.rows == 6:
		avx2Rows6(t.k, a, t.lda, b, &c[0], ldc, t.start)
	case t.rows == 2:
		avx2Rows2(t.k, a, t.lda, b, &c[0], ldc, t.start)
	default:
		avx2Rows1(t.k, a, t.lda, b, &c[0], ldc, t.start)
	}
}
