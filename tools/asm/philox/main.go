// Command philox writes the kernels of internal/philox: normal numbers for
// AVX-512, AVX2 and SSE2, operation for operation what boxMuller there does.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const rounds = 10

// Offsets of the fields of draw and of transform in internal/philox, in bytes.
// The tests there compare every number with those of the portable kernel.
const (
	keys  = 0 // [rounds][2]uint32
	block = 8 * rounds
	step  = block + 4 // step, a, b
	mul0  = step + 12
	mul1  = mul0 + 4

	half     = 0
	toUnit   = 4
	one      = 8
	third    = 12
	ln2Low   = 16
	ln2High  = 20
	logs     = 24 // 8
	eighth   = 56
	quarters = 60
	signBit  = 64
	quarter  = 68
	odd      = 72
	toTurn   = 76
	twoPi    = 80
	sines    = 84  // 4
	cosines  = 100 // 4
)

func main() {
	ConstraintExpr("amd64")
	normals(set{name: "avx512", lanes: 8, side: 2, vector: ZMM, wide: true})
	normals(set{name: "avx2", lanes: 4, side: 1, vector: YMM})
	normals(set{name: "sse2", lanes: 2, side: 1, vector: XMM, legacy: true})
	Generate()
}

func normals(s set) {
	TEXT(s.name+"Normals", NOSPLIT, "func(dst *float32, groups int, draw *uint32, transform *float32)")
	Pragma("noescape")
	Doc(
		fmt.Sprintf("%sNormals writes groups of %d normal numbers to dst, from the blocks of draw on,", s.name, 4*s.lanes*s.side),
		"which is left as it is.",
	)
	dst, groups := Load(Param("dst"), GP64()), Load(Param("groups"), GP64())
	d := Mem{Base: Load(Param("draw"), GP64())}
	t := Mem{Base: Load(Param("transform"), GP64())}

	Comment("Counters, one block in the lower half of each 64-bit lane.")
	c1, c2, c3 := s.load(d.Offset(step)), s.load(d.Offset(step+4)), s.load(d.Offset(step+8))
	m0, m1 := s.load(d.Offset(mul0)), s.load(d.Offset(mul1))
	counter := s.vectors() // side by side
	lanes := GLOBL(s.name+"Lanes", RODATA|NOPTR)
	for i := range s.lanes * s.side {
		DATA(8*i, U64(i))
	}
	for i := range counter {
		counter[i] = s.load(d.Offset(block))
		s.increase(counter[i], lanes.Offset(8*s.lanes*i))
	}
	increment := s.number(s.lanes * s.side)
	var oddLanes reg.Register
	var low, high reg.VecVirtual
	if s.wide {
		oddLanes = K()
		bits := GP32()
		MOVL(U32(0xAAAA), bits)
		KMOVW(bits, oddLanes)
		low, high = interleave(s)
	}

	Label("loop")
	Comment("Ten rounds of Philox4x32; what stands in the upper halves does not matter.")
	a, b, c, e := counter, s.same(c1), s.same(c2), s.same(c3)
	for r := range rounds {
		p0, p1 := s.with(mulI, a, s.same(m0)), s.with(mulI, c, s.same(m1))
		h0, h1 := s.of(shiftDown, p0, Imm(32)), s.of(shiftDown, p1, Imm(32))
		a, b, c, e = s.mix(h1, b, d.Offset(keys+8*r)), p1, s.mix(h0, e, d.Offset(keys+8*r+4)), p0
	}
	for _, c := range counter {
		s.increase(c, increment)
	}
	u, v := s.odds(a, c, oddLanes), s.odds(b, e, oddLanes)

	Comment("The radius.")
	y := s.with(addF, s.of(toFloat, u), t.Offset(half))
	g := s.with(mulF, y, t.Offset(toUnit))
	negative := s.of(shiftRight, y, Imm(31))
	unit := s.with(addF, g, s.with(s.and(), negative, t.Offset(one)))
	exponent := s.of(shiftRight, s.with(subI, unit, t.Offset(third)), Imm(23))
	scale := s.with(subI, s.same(s.load(t.Offset(one))), s.of(shiftLeft, exponent, Imm(23)))
	f := s.with(addF, s.with(mulF, g, scale), s.with(subF, s.with(s.and(), negative, scale), t.Offset(one)))
	times := s.of(toFloat, exponent)
	square := s.with(mulF, f, f)
	p := s.with(mulF, s.horner(f, t.Offset(logs), 8), s.with(mulF, f, square))
	p = s.with(addF, p, s.with(mulF, times, t.Offset(ln2Low)))
	p = s.with(addF, p, square)
	p = s.with(subF, p, s.with(addF, f, f))
	p = s.with(addF, p, s.with(mulF, times, t.Offset(ln2High)))
	radius := s.of(root, p)

	Comment("The angle.")
	turned := s.with(s.and(), s.with(addI, v, t.Offset(eighth)), t.Offset(quarters))
	x := s.with(s.or(), s.of(shiftRight, s.with(subI, v, turned), Imm(5)), t.Offset(odd))
	x = s.with(mulF, s.of(toFloat, x), t.Offset(toTurn))
	z := s.with(mulF, x, x)
	sine := s.with(addF, s.with(mulF, s.horner(z, t.Offset(sines), 4), x), s.with(mulF, x, t.Offset(twoPi)))
	cosine := s.with(addF, s.with(mulF, s.horner(z, t.Offset(cosines), 4), z), t.Offset(one))
	sine, cosine = s.exchange(sine, cosine, s.of(shiftLeft, turned, Imm(1)))
	sine = s.negate(sine, turned, t.Offset(signBit))
	cosine = s.negate(cosine, s.with(addI, turned, t.Offset(quarter)), t.Offset(signBit))
	n0, n1 := s.with(mulF, radius, cosine), s.with(mulF, radius, sine)

	Comment("Cosine and sine alternate.")
	for i := range n0 {
		s.store(n0[i], n1[i], low, high, Mem{Base: dst, Disp: 16 * s.lanes * i})
	}
	ADDQ(U32(16*s.lanes*s.side), dst)
	DECQ(groups)
	JNZ(LabelRef("loop"))
	if !s.legacy {
		VZEROUPPER()
	}
	RET()
}

// interleave are the orders that VPERMT2PS makes the lower and the upper half
// of an alternating sequence with.
func interleave(s set) (low, high reg.VecVirtual) {
	order := GLOBL(s.name+"Interleave", RODATA|NOPTR)
	for i := range 32 {
		DATA(4*i, U32(i/2+16*(i%2)))
	}
	low, high = s.vector(), s.vector()
	VMOVUPS(order, low)
	VMOVUPS(order.Offset(64), high)
	return low, high
}
