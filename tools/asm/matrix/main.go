// Command matrix writes the kernels of internal/matrix: tiles of a·bᵀ for
// AVX-512, AVX2 and SSE2.
//
// A tile of r rows and two vectors of columns is held in 2r registers. In every
// step of k the kernel loads two vectors of the packed right operand, and for
// each row spreads one number of the left one over a vector and does two fused
// multiply-adds. AVX-512 has 32 registers for 12 x 32 tiles, AVX2 has 16 for
// 6 x 16. Lower tiles finish the rows that are left. SSE2 has 6 x 8; see sse2.go.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// set is an instruction set: the size of its registers in bytes, and how to
// make one.
type set struct {
	name    string
	bytes   int
	heights []int
	vector  func() reg.VecVirtual
}

func main() {
	ConstraintExpr("amd64")
	for _, s := range []set{
		{"avx512", 64, []int{12, 4, 1}, ZMM},
		{"avx2", 32, []int{6, 2, 1}, YMM},
	} {
		for _, rows := range s.heights {
			tile(s, rows)
		}
	}
	for _, rows := range []int{6, 2, 1} {
		tileSSE2(rows)
	}
	Generate()
}

// unroll is the number of steps of k per round of the main loop.
const unroll = 4

func tile(s set, rows int) {
	name := fmt.Sprintf("%sRows%d", s.name, rows)
	o := begin(name, rows, s.bytes/2,
		"c[i][j] += Σ a[i][p]·b[p][j], p rising, each product and sum fused. Rows of a and c",
		"are lda and ldc numbers apart; b is packed. With start, c is overwritten.")
	k, b, c, ldc := o.k, o.b, o.c, o.ldc

	sums := make([][2]reg.VecVirtual, rows)
	for i := range sums {
		sums[i] = [2]reg.VecVirtual{s.vector(), s.vector()}
	}
	Comment("Begin with zeros or with what c holds.")
	start := Load(Param("start"), GP32())
	TESTL(start, start)
	JNZ(LabelRef("zero"))
	at := GP64()
	MOVQ(c, at)
	for _, pair := range sums {
		VMOVUPS(Mem{Base: at}, pair[0])
		VMOVUPS(Mem{Base: at, Disp: s.bytes}, pair[1])
		ADDQ(ldc, at)
	}
	JMP(LabelRef("four"))
	Label("zero")
	for _, pair := range sums {
		for _, sum := range pair {
			if s.bytes == 64 {
				VPXORD(sum, sum, sum)
			} else {
				VXORPS(sum, sum, sum)
			}
		}
	}

	step := func(p int) {
		b0, b1 := s.vector(), s.vector()
		VMOVUPS(Mem{Base: b, Disp: 2 * p * s.bytes}, b0)
		VMOVUPS(Mem{Base: b, Disp: (2*p + 1) * s.bytes}, b1)
		for i, pair := range sums {
			x := s.vector()
			VBROADCASTSS(o.left(i, p), x)
			VFMADD231PS(b0, x, pair[0])
			VFMADD231PS(b1, x, pair[1])
		}
	}
	advance := func(steps int) {
		ADDQ(U32(2*steps*s.bytes), b)
		o.advance(steps)
	}

	Label("four")
	SUBQ(Imm(unroll), k)
	JLT(LabelRef("rest"))
	Label("loop")
	for p := range unroll {
		step(p)
	}
	advance(unroll)
	SUBQ(Imm(unroll), k)
	JGE(LabelRef("loop"))

	Label("rest")
	ADDQ(Imm(unroll), k)
	JZ(LabelRef("store"))
	Label("one")
	step(0)
	advance(1)
	DECQ(k)
	JNZ(LabelRef("one"))

	Label("store")
	for _, pair := range sums {
		VMOVUPS(pair[0], Mem{Base: c})
		VMOVUPS(pair[1], Mem{Base: c, Disp: s.bytes})
		ADDQ(ldc, c)
	}
	VZEROUPPER()
	RET()
}
