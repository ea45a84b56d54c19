package matrix

import "github.com/dreamood/dreamood/internal/simd"

// The largest tile of any kernel.
const (
	maxHeight = 12
	maxWidth  = 32
)

// width is the number of columns of the tiles of a set.
func width(set simd.Set) int {
	return [...]int{simd.Portable: 4, simd.SSE2: 8, simd.AVX2: 16, simd.AVX512: 32, simd.NEON: 8}[set]
}

// heights are the numbers of rows of the tiles of a set, falling.
var heights = [...][]int{
	simd.Portable: {4, 1}, simd.SSE2: {6, 2, 1}, simd.AVX2: {6, 2, 1}, simd.AVX512: {12, 4, 1}, simd.NEON: {8, 4, 1},
}

// height is the highest tile that fits in rows, which is at least 1.
func height(set simd.Set, rows int) int {
	for _, h := range heights[set] {
		if h <= rows {
			return h
		}
	}
	return 1
}

// tile is one call of a kernel: c (+)= a·b for rows [rows, k] of a, lda numbers
// apart, and a panel b [k, width]. c is overwritten at the start and added to
// afterwards, p = 0 … k-1 in this order for every element, whatever the height.
type tile struct {
	set     simd.Set
	rows, k int
	start   bool
	a       []float32
	lda     int
	b       []float32
}

// runEdge runs the tile on a c of fewer columns than the kernel has, by way of
// scratch.
func (t *tile) runEdge(c []float32, ldc, cols int, scratch *[maxHeight * maxWidth]float32) {
	w := width(t.set)
	if !t.start {
		for r := range t.rows {
			copy(scratch[r*w:r*w+cols], c[r*ldc:])
		}
	}
	t.run(scratch[:], w)
	for r := range t.rows {
		copy(c[r*ldc:r*ldc+cols], scratch[r*w:])
	}
}

// runPortable is run in Go. Four by four sums stay in registers. A tile of one
// row is one of four equal rows of which one is kept: the same instructions
// sum every element.
func (t *tile) runPortable(c []float32, ldc int) {
	lda := t.lda
	if t.rows == 1 {
		lda = 0
	}
	k := t.k
	a0, a1, a2, a3 := t.a[:k], t.a[lda:][:k], t.a[2*lda:][:k], t.a[3*lda:][:k]
	var s [4][4]float32
	if !t.start {
		for r := range t.rows {
			copy(s[r][:], c[r*ldc:])
		}
	}
	s00, s01, s02, s03 := s[0][0], s[0][1], s[0][2], s[0][3]
	s10, s11, s12, s13 := s[1][0], s[1][1], s[1][2], s[1][3]
	s20, s21, s22, s23 := s[2][0], s[2][1], s[2][2], s[2][3]
	s30, s31, s32, s33 := s[3][0], s[3][1], s[3][2], s[3][3]
	b := t.b[:4*k]
	for p := 0; p < k && len(b) >= 4; p++ {
		b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
		b = b[4:]
		x := a0[p]
		s00 += x * b0
		s01 += x * b1
		s02 += x * b2
		s03 += x * b3
		x = a1[p]
		s10 += x * b0
		s11 += x * b1
		s12 += x * b2
		s13 += x * b3
		x = a2[p]
		s20 += x * b0
		s21 += x * b1
		s22 += x * b2
		s23 += x * b3
		x = a3[p]
		s30 += x * b0
		s31 += x * b1
		s32 += x * b2
		s33 += x * b3
	}
	s = [4][4]float32{{s00, s01, s02, s03}, {s10, s11, s12, s13}, {s20, s21, s22, s23}, {s30, s31, s32, s33}}
	for r := range t.rows {
		copy(c[r*ldc:r*ldc+4], s[r][:])
	}
}
