package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// set is an instruction set: the size of its registers in 64-bit lanes, how many
// registers of blocks are worked on side by side (one alone is a chain of
// instructions that wait for each other), and what the two write differently.
type set struct {
	name   string
	lanes  int
	side   int
	vector func() reg.VecVirtual
	wide   bool // AVX-512
	legacy bool // SSE2
}

// operation is an instruction on registers: with three operands, its form that
// spreads a number in memory over one of them (AVX-512), and that of SSE2, which
// overwrites the last one.
type operation struct {
	plain, spread func(...Op)
	two           func(a, b Op)
}

var (
	mulF = operation{VMULPS, VMULPS_BCST, MULPS}
	addF = operation{VADDPS, VADDPS_BCST, ADDPS}
	subF = operation{VSUBPS, VSUBPS_BCST, SUBPS}
	addI = operation{VPADDD, VPADDD_BCST, PADDL}
	subI = operation{VPSUBD, VPSUBD_BCST, PSUBL}
	mulI = operation{plain: VPMULUDQ, two: PMULULQ}
	xor  = operation{plain: op(VPXOR), two: PXOR}
)

// logic are bitwise operations, whose names differ.
func (s set) and() operation {
	if s.wide {
		return operation{plain: VPANDD, spread: VPANDD_BCST}
	}
	return operation{plain: op(VPAND), two: PAND}
}

func (s set) or() operation {
	if s.wide {
		return operation{plain: VPORD, spread: VPORD_BCST}
	}
	return operation{plain: op(VPOR), two: POR}
}

// change is an instruction on one register and perhaps a constant in front, and
// its form of SSE2: of two registers, or where alone is set, on a register in
// place.
type change struct {
	plain func(...Op)
	two   func(a, b Op)
	alone bool
}

var (
	toFloat    = change{VCVTDQ2PS, CVTPL2PS, false}
	root       = change{VSQRTPS, SQRTPS, false}
	shiftDown  = change{VPSRLQ, PSRLQ, true} // of 64 bits
	shiftLeft  = change{VPSLLD, PSLLL, true}
	shiftRight = change{VPSRAD, PSRAL, true} // of signed numbers
)

// vectors are the registers that stand side by side.
type vectors []reg.VecVirtual

func (s set) vectors() vectors {
	v := make(vectors, s.side)
	for i := range v {
		v[i] = s.vector()
	}
	return v
}

// same is one register side by side with itself.
func (s set) same(r reg.VecVirtual) vectors {
	v := make(vectors, s.side)
	for i := range v {
		v[i] = r
	}
	return v
}

// with returns a o b, b vectors or a number in memory; for a difference, a - b.
func (s set) with(o operation, a vectors, b any) vectors {
	dst := s.vectors()
	for i := range a {
		switch b := b.(type) {
		case vectors:
			s.three(o, a[i], b[i], dst[i])
		case Mem:
			if s.wide {
				o.spread(b, a[i], dst[i])
			} else {
				s.three(o, a[i], s.load(b), dst[i])
			}
		}
	}
	return dst
}

// three sets dst = a o b; dst is neither.
func (s set) three(o operation, a, b, dst reg.VecVirtual) {
	if s.legacy {
		MOVAPS(a, dst)
		o.two(b, dst)
	} else {
		o.plain(b, a, dst)
	}
}

// load spreads a number in memory.
func (s set) load(m Mem) reg.VecVirtual {
	dst := s.vector()
	if s.legacy {
		MOVSS(m, dst)
		PSHUFD(Imm(0), dst, dst)
	} else {
		VBROADCASTSS(m, dst)
	}
	return dst
}

// increase adds by, a register or memory at any address, to x in place.
func (s set) increase(x reg.VecVirtual, by Op) {
	if s.legacy {
		more := s.vector()
		MOVUPS(by, more)
		PADDL(more, x)
	} else {
		VPADDD(by, x, x)
	}
}

// number spreads n.
func (s set) number(n int) reg.VecVirtual {
	dst, r := s.vector(), GP32()
	MOVL(U32(n), r)
	switch {
	case s.wide:
		VPBROADCASTD(r, dst)
	case s.legacy:
		MOVD(r, dst)
		PSHUFD(Imm(0), dst, dst)
	default:
		VMOVD(r, dst.AsX())
		VPBROADCASTD(dst.AsX(), dst)
	}
	return dst
}

// of applies an instruction to a, perhaps with a constant in front.
func (s set) of(c change, a vectors, constant ...Op) vectors {
	dst := s.vectors()
	for i := range a {
		switch {
		case !s.legacy:
			c.plain(append(append([]Op{}, constant...), a[i], dst[i])...)
		case c.alone:
			MOVAPS(a[i], dst[i])
			c.two(constant[0], dst[i])
		default:
			c.two(a[i], dst[i])
		}
	}
	return dst
}

// horner is the polynomial of x with n coefficients from m on, the highest last.
func (s set) horner(x vectors, m Mem, n int) vectors {
	p := s.with(mulF, x, m.Offset(4*(n-1)))
	for i := n - 2; i > 0; i-- {
		p = s.with(mulF, s.with(addF, p, m.Offset(4*i)), x)
	}
	return s.with(addF, p, m)
}

// negate returns x with its sign turned where mask & signs has the sign bit.
func (s set) negate(x, mask vectors, signs Mem) vectors {
	if !s.wide {
		return s.with(xor, x, s.with(s.and(), mask, signs))
	}
	for i := range x {
		VPTERNLOGD_BCST(Imm(0x78), signs, mask[i], x[i]) // x ^ (mask & signs)
	}
	return x
}

// mix returns h ^ c ^ key, the end of a round of Philox.
func (s set) mix(h, c vectors, key Mem) vectors {
	if !s.wide {
		return s.with(xor, s.with(xor, h, c), key)
	}
	for i := range h {
		VPTERNLOGD_BCST(Imm(0x96), key, c[i], h[i])
	}
	return h
}

// odds returns even with the 32-bit lanes 1, 3, … taken from lanes 0, 2, … of
// other.
func (s set) odds(even, other vectors, mask reg.Register) vectors {
	dst := s.vectors()
	for i := range even {
		switch {
		case s.wide:
			VMOVSLDUP(other[i], mask, even[i])
			dst[i] = even[i]
		case s.legacy:
			upper := s.vector()
			MOVAPS(other[i], upper)
			PSLLQ(Imm(32), upper)
			MOVAPS(even[i], dst[i])
			PSLLQ(Imm(32), dst[i])
			PSRLQ(Imm(32), dst[i])
			POR(upper, dst[i])
		default:
			twice := s.vector()
			VMOVSLDUP(other[i], twice)
			VPBLENDD(Imm(0xAA), twice, even[i], dst[i])
		}
	}
	return dst
}

// exchange swaps x and y in the lanes where the sign bit of sign is set.
func (s set) exchange(x, y, sign vectors) (a, b vectors) {
	if s.legacy {
		swap := s.with(s.and(), s.with(xor, x, y), s.of(shiftRight, sign, Imm(31)))
		return s.with(xor, x, swap), s.with(xor, y, swap)
	}
	a, b = s.vectors(), s.vectors()
	for i := range x {
		if s.wide {
			k := K()
			VPMOVD2M(sign[i], k)
			VBLENDMPS(y[i], x[i], k, a[i])
			VBLENDMPS(x[i], y[i], k, b[i])
		} else {
			VBLENDVPS(sign[i], y[i], x[i], a[i])
			VBLENDVPS(sign[i], x[i], y[i], b[i])
		}
	}
	return a, b
}

// store writes a and b in turns, lane by lane; low and high are orders of
// AVX-512.
func (s set) store(a, b, low, high reg.VecVirtual, at Mem) {
	first, second := s.vector(), s.vector()
	half := at.Offset(8 * s.lanes)
	switch {
	case s.wide:
		VMOVAPS(a, first)
		VMOVAPS(a, second)
		VPERMT2PS(b, low, first)
		VPERMT2PS(b, high, second)
	case s.legacy:
		MOVAPS(a, first)
		UNPCKLPS(b, first)
		UNPCKHPS(b, a)
		MOVUPS(first, at)
		MOVUPS(a, half)
		return
	default:
		l, h := s.vector(), s.vector()
		VUNPCKLPS(b, a, l)
		VUNPCKHPS(b, a, h)
		VPERM2F128(Imm(0x20), h, l, first)
		VPERM2F128(Imm(0x31), h, l, second)
	}
	VMOVUPS(first, at)
	VMOVUPS(second, half)
}

// op is an instruction of three operands as one of any.
func op(f func(a, b, c Op)) func(...Op) { return func(o ...Op) { f(o[0], o[1], o[2]) } }
