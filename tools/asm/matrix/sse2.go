package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tileSSE2 is a tile of rows x 8 in the instructions that every amd64 CPU has:
// they overwrite an operand and fuse nothing, and four steps of a row of a come
// with one load, for PSHUFD spreads each of four numbers.
func tileSSE2(rows int) {
	o := begin(fmt.Sprintf("sse2Rows%d", rows), rows, 8,
		"c[i][j] += Σ a[i][p]·b[p][j], p rising, each product and each sum rounded. Rows of a and",
		"c are lda and ldc numbers apart; b is packed. Rows of a and b begin at multiples of 16",
		"bytes. With start, c is overwritten.")
	sums := make([][2]reg.VecVirtual, rows)
	for i := range sums {
		sums[i] = [2]reg.VecVirtual{XMM(), XMM()}
	}
	Comment("Begin with zeros or with what c holds.")
	start := Load(Param("start"), GP32())
	TESTL(start, start)
	JNZ(LabelRef("zero"))
	at := GP64()
	MOVQ(o.c, at)
	for _, pair := range sums {
		MOVUPS(Mem{Base: at}, pair[0])
		MOVUPS(Mem{Base: at, Disp: 16}, pair[1])
		ADDQ(o.ldc, at)
	}
	JMP(LabelRef("four"))
	Label("zero")
	for _, pair := range sums {
		XORPS(pair[0], pair[0])
		XORPS(pair[1], pair[1])
	}

	step := func(p int, spread func(row int, x reg.VecVirtual)) {
		b0, b1 := XMM(), XMM()
		MOVAPS(Mem{Base: o.b, Disp: 32 * p}, b0)
		MOVAPS(Mem{Base: o.b, Disp: 32*p + 16}, b1)
		for i, pair := range sums {
			x, y := XMM(), XMM()
			spread(i, x)
			MOVAPS(x, y)
			MULPS(b0, x)
			MULPS(b1, y)
			ADDPS(x, pair[0])
			ADDPS(y, pair[1])
		}
	}

	Label("four")
	SUBQ(Imm(4), o.k)
	JLT(LabelRef("rest"))
	Label("loop")
	for p := range 4 {
		step(p, func(row int, x reg.VecVirtual) { PSHUFD(Imm(uint64(p*0x55)), o.left(row, 0), x) })
	}
	ADDQ(U32(4*32), o.b)
	o.advance(4)
	SUBQ(Imm(4), o.k)
	JGE(LabelRef("loop"))

	Label("rest")
	ADDQ(Imm(4), o.k)
	JZ(LabelRef("store"))
	Label("one")
	step(0, func(row int, x reg.VecVirtual) {
		MOVSS(o.left(row, 0), x)
		SHUFPS(Imm(0), x, x)
	})
	ADDQ(Imm(32), o.b)
	o.advance(1)
	DECQ(o.k)
	JNZ(LabelRef("one"))

	Label("store")
	for _, pair := range sums {
		MOVUPS(pair[0], Mem{Base: o.c})
		MOVUPS(pair[1], Mem{Base: o.c, Disp: 16})
		ADDQ(o.ldc, o.c)
	}
	RET()
}
