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
	wide   bool
}

// operation is an instruction on registers, and its form that spreads a number
// in memory over one operand (AVX-512).
type operation struct{ plain, spread func(...Op) }

var (
	mulF = operation{VMULPS, VMULPS_BCST}
	addF = operation{VADDPS, VADDPS_BCST}
	subF = operation{VSUBPS, VSUBPS_BCST}
	addI = operation{VPADDD, VPADDD_BCST}
	subI = operation{VPSUBD, VPSUBD_BCST}
	mulI = operation{plain: VPMULUDQ}
	xor  = operation{plain: op(VPXOR)}
)

// logic are bitwise operations, whose names differ.
func (s set) and() operation {
	if s.wide {
		return operation{VPANDD, VPANDD_BCST}
	}
	return operation{op(VPAND), nil}
}

func (s set) or() operation {
	if s.wide {
		return operation{VPORD, VPORD_BCST}
	}
	return operation{op(VPOR), nil}
}

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
			o.plain(b[i], a[i], dst[i])
		case Mem:
			if s.wide {
				o.spread(b, a[i], dst[i])
			} else {
				VBROADCASTSS(b, dst[i])
				o.plain(dst[i], a[i], dst[i])
			}
		}
	}
	return dst
}

// load spreads a number in memory.
func (s set) load(m Mem) reg.VecVirtual {
	dst := s.vector()
	VBROADCASTSS(m, dst)
	return dst
}

// of applies an instruction to a, perhaps with a constant in front.
func (s set) of(instruction func(...Op), a vectors, constant ...Op) vectors {
	dst := s.vectors()
	for i := range a {
		instruction(append(append([]Op{}, constant...), a[i], dst[i])...)
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
	if s.wide {
		for i := range even {
			VMOVSLDUP(other[i], mask, even[i])
		}
		return even
	}
	dst, twice := s.vectors(), s.of(VMOVSLDUP, other)
	for i := range even {
		VPBLENDD(Imm(0xAA), twice[i], even[i], dst[i])
	}
	return dst
}

// exchange swaps x and y in the lanes where the sign bit of sign is set.
func (s set) exchange(x, y, sign vectors) (a, b vectors) {
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

// op is an instruction of three operands as one of any.
func op(f func(a, b, c Op)) func(...Op) { return func(o ...Op) { f(o[0], o[1], o[2]) } }
