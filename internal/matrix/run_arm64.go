package matrix

import "github.com/dreamood/dreamood/internal/simd"

// run computes the tile into c, rows ldc numbers apart.
func (t *tile) run(c []float32, ldc int) {
	if t.set == simd.Portable {
		t.runPortable(c, ldc)
		return
	}
	a, b := t.operands(c, ldc)
	switch t.rows {
	case 8:
		neonRows8(t.k, a, t.lda, b, &c[0], ldc, t.start)
	case 4:
		neonRows4(t.k, a, t.lda, b, &c[0], ldc, t.start)
	default:
		neonRows1(t.k, a, t.lda, b, &c[0], ldc, t.start)
	}
}
