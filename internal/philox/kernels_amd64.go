package philox

import "github.com/dreamood/dreamood/internal/simd"

//go:generate go -C ../../tools/asm run ./philox -out ../../internal/philox/normal_amd64.s -stubs ../../internal/philox/normal_amd64.go -pkg philox

// normals fills dst, of whole groups of the set, and moves on.
func (d *draw) normals(set simd.Set, dst []float32) {
	groups := len(dst) / group(set)
	switch {
	case groups == 0:
	case set == simd.AVX512:
		avx512Normals(&dst[0], groups, &d.keys[0][0], &constants.half)
		d.block += uint32(16 * groups)
	case set == simd.AVX2:
		avx2Normals(&dst[0], groups, &d.keys[0][0], &constants.half)
		d.block += uint32(4 * groups)
	case set == simd.SSE2:
		sse2Normals(&dst[0], groups, &d.keys[0][0], &constants.half)
		d.block += uint32(2 * groups)
	default:
		d.portableNormals(dst)
	}
}
