package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// countSSE2 is [count] in the instructions that every amd64 CPU has. A
// comparison gives -1 where a number is below, which a vector of counts takes
// off; it is added up once per stretch.
type countSSE2 struct {
	count
	counts reg.VecVirtual
}

func (c countSSE2) generate() {
	threshold := c.begin()
	c.t, c.counts = XMM(), XMM()
	MOVSS(threshold, c.t)
	SHUFPS(Imm(0), c.t, c.t)

	Label("sixtyfour")
	CMPQ(c.left, Imm(64))
	JLT(LabelRef("tail"))
	PXOR(c.counts, c.counts)
	for i := range 16 {
		c.four(16 * i)
	}
	c.advance(64)
	c.account(c.total())
	if c.reaches {
		Comment("Those left cannot change it.")
		CMPQ(c.counter, c.left)
		JGE(LabelRef("yes"))
	}
	JMP(LabelRef("sixtyfour"))

	Label("tail")
	PXOR(c.counts, c.counts)
	Label("four")
	CMPQ(c.left, Imm(4))
	JLT(LabelRef("one"))
	c.four(0)
	c.advance(4)
	JMP(LabelRef("four"))
	Label("one")
	TESTQ(c.left, c.left)
	JZ(LabelRef("last"))
	c.one()
	c.advance(1)
	JMP(LabelRef("one"))
	Label("last")
	c.account(c.total())
	if c.reaches {
		Label("yes")
		c.give(true)
		Label("no")
	}
	c.give(false)
}

func (c countSSE2) advance(n int) {
	ADDQ(U32(4*n), c.a)
	if c.reaches {
		ADDQ(U32(4*n), c.b)
	}
	SUBQ(U32(n), c.left)
}

// four counts four numbers, some bytes on.
func (c countSSE2) four(at int) {
	v := XMM()
	MOVUPS(Mem{Base: c.a, Disp: at}, v)
	if c.reaches {
		w := XMM()
		MOVUPS(Mem{Base: c.b, Disp: at}, w)
		ADDPS(w, v)
	}
	CMPPS(c.t, v, Imm(less))
	PSUBL(v, c.counts)
}

// one counts one number; the three others of the register stay zero.
func (c countSSE2) one() {
	v := XMM()
	MOVSS(Mem{Base: c.a}, v)
	if c.reaches {
		ADDSS(Mem{Base: c.b}, v)
	}
	CMPSS(c.t, v, Imm(less))
	PSUBL(v, c.counts)
}

// total adds up the counts.
func (c countSSE2) total() reg.GPVirtual {
	half, n := XMM(), GP64()
	PSHUFD(Imm(0x4E), c.counts, half)
	PADDL(half, c.counts)
	PSHUFD(Imm(0xB1), c.counts, half)
	PADDL(half, c.counts)
	MOVQ(c.counts, n) // the total, twice
	SHRQ(Imm(32), n)
	return n
}
