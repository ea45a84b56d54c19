// Command matrix writes the kernels of internal/matrix: tiles of a·bᵀ for
// AVX-512 and AVX2.
//
// A tile of r rows and two vectors of columns is held in 2r registers. In every
// step of k the kernel loads two vectors of the packed right operand, and for
// each row spreads one number of the left one over a vector and does two fused
// multiply-adds. AVX-512 has 32 registers for 12 x 32 tiles, AVX2 has 16 for
// 6 x 16. Lower tiles finish the rows that are left.
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
	Generate()
}

// unroll is the number of steps of k per round of the main loop.
const unroll = 4

func tile(s set, rows int) {
	name := fmt.Sprintf("%sRows%d", s.name, rows)
	TEXT(name, NOSPLIT, "func(k int, a *float32, lda int, b *float32, c *float32, ldc int, start bool)")
	Pragma("noescape")
	Doc(
		fmt.Sprintf("%s adds k steps to a tile of %d rows and %d columns of a·bᵀ:", name, rows, s.bytes/2),
		"c[i][j] += Σ a[i][p]·b[p][j], p rising, each product and sum fused. Rows of a and c",
		"are lda and ldc numbers apart; b is packed. With start, c is overwritten.",
	)
	k, a, lda := Load(Param("k"), GP64()), Load(Param("a"), GP64()), Load(Param("lda"), GP64())
	b, c, ldc := Load(Param("b"), GP64()), Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
	SHLQ(Imm(2), lda)
	SHLQ(Imm(2), ldc)

	// Three rows share a base register: base, base+lda, base+2·lda.
	bases := []reg.Register{a}
	for len(bases)*3 < rows {
		next := GP64()
		LEAQ(Mem{Base: bases[len(bases)-1], Index: lda, Scale: 2}, next)
		ADDQ(lda, next)
		bases = append(bases, next)
	}
	left := func(row, step int) Mem {
		m := Mem{Base: bases[row/3], Disp: 4 * step}
		if row%3 > 0 {
			m.Index, m.Scale = lda, uint8(row%3)
		}
		return m
	}

	sums := make([][2]reg.VecVirtual, rows)
	for i := range sums {
		sums[i] = [2]reg.VecVirtual{s.vector(), s.vector()}
	}
	Comment("Begin with zeros or with what c holds.")
	begin := Load(Param("start"), GP32())
	TESTL(begin, begin)
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
			VBROADCASTSS(left(i, p), x)
			VFMADD231PS(b0, x, pair[0])
			VFMADD231PS(b1, x, pair[1])
		}
	}
	advance := func(steps int) {
		ADDQ(U32(2*steps*s.bytes), b)
		for _, base := range bases {
			ADDQ(U32(4*steps), base)
		}
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
