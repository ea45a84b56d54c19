package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// squares declares a kernel that scales and adds up squares, and loads what
// both have: the numbers, the rounds and where the partial sums go.
func squares(name string) (v, rounds, partials reg.GPVirtual, factor Mem) {
	TEXT(name, NOSPLIT, "func(v *float32, rounds int, factor float32, partials *[16]float64)")
	Pragma("noescape")
	Doc(
		name+" multiplies 16·rounds numbers by factor and sets partials to the sums of the",
		"squares of every sixteenth. A square of a float32 is exact in float64, so it may be fused.",
	)
	v, rounds, partials = GP64(), GP64(), GP64()
	Load(Param("v"), v)
	Load(Param("rounds"), rounds)
	Load(Param("partials"), partials)
	f, err := Param("factor").Resolve()
	if err != nil {
		panic(err)
	}
	return v, rounds, partials, f.Addr
}

func scaleSquares512() {
	v, rounds, partials, from := squares("avx512ScaleSquares")
	factor, low, high := ZMM(), ZMM(), ZMM()
	VBROADCASTSS(from, factor)
	VPXORQ(low, low, low)
	VPXORQ(high, high, high)
	Label("loop")
	x, upper, a, b := ZMM(), YMM(), ZMM(), ZMM()
	VMULPS(Mem{Base: v}, factor, x)
	VMOVUPS(x, Mem{Base: v})
	VEXTRACTF64X4(Imm(1), x, upper)
	VCVTPS2PD(x.AsY(), a)
	VCVTPS2PD(upper, b)
	VFMADD231PD(a, a, low)
	VFMADD231PD(b, b, high)
	ADDQ(Imm(64), v)
	DECQ(rounds)
	JNZ(LabelRef("loop"))
	VMOVUPD(low, Mem{Base: partials})
	VMOVUPD(high, Mem{Base: partials, Disp: 64})
	VZEROUPPER()
	RET()
}

func scaleSquares256() {
	v, rounds, partials, from := squares("avx2ScaleSquares")
	factor := YMM()
	VBROADCASTSS(from, factor)
	var sums [4]reg.VecVirtual
	for i := range sums {
		sums[i] = YMM()
		VXORPD(sums[i], sums[i], sums[i])
	}
	Label("loop")
	for half := range 2 {
		at := Mem{Base: v, Disp: 32 * half}
		x, upper, a, b := YMM(), XMM(), YMM(), YMM()
		VMULPS(at, factor, x)
		VMOVUPS(x, at)
		VEXTRACTF128(Imm(1), x, upper)
		VCVTPS2PD(x.AsX(), a)
		VCVTPS2PD(upper, b)
		VFMADD231PD(a, a, sums[2*half])
		VFMADD231PD(b, b, sums[2*half+1])
	}
	ADDQ(Imm(64), v)
	DECQ(rounds)
	JNZ(LabelRef("loop"))
	for i, sum := range sums {
		VMOVUPD(sum, Mem{Base: partials, Disp: 32 * i})
	}
	VZEROUPPER()
	RET()
}

func scaleSquares128() {
	v, rounds, partials, from := squares("sse2ScaleSquares")
	factor := XMM()
	MOVSS(from, factor)
	SHUFPS(Imm(0), factor, factor)
	var sums [8]reg.VecVirtual
	for i := range sums {
		sums[i] = XMM()
		XORPD(sums[i], sums[i])
	}
	Label("loop")
	for quarter := range 4 {
		at := Mem{Base: v, Disp: 16 * quarter}
		x, a, b := XMM(), XMM(), XMM()
		MOVUPS(at, x)
		MULPS(factor, x)
		MOVUPS(x, at)
		CVTPS2PD(x, a)
		MOVHLPS(x, x)
		CVTPS2PD(x, b)
		MULPD(a, a)
		MULPD(b, b)
		ADDPD(a, sums[2*quarter])
		ADDPD(b, sums[2*quarter+1])
	}
	ADDQ(Imm(64), v)
	DECQ(rounds)
	JNZ(LabelRef("loop"))
	for i, sum := range sums {
		MOVUPD(sum, Mem{Base: partials, Disp: 16 * i})
	}
	RET()
}
