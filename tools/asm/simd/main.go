// Command simd writes the kernels of internal/simd: counting below a threshold,
// and scaling with the sum of squares, for AVX-512, AVX2 and SSE2.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	count{name: "avx512Reaches", wide: true, reaches: true}.generate()
	count{name: "avx512Below", wide: true}.generate()
	count{name: "avx2Reaches", reaches: true}.generate()
	count{name: "avx2Below"}.generate()
	countSSE2{count{name: "sse2Reaches", reaches: true}, nil}.generate()
	countSSE2{count{name: "sse2Below"}, nil}.generate()
	scaleSquares512()
	scaleSquares256()
	scaleSquares128()
	Generate()
}

// count is a kernel that counts numbers below t: sums a[j]+b[j], with an end as
// soon as the count decides, or the numbers of a alone.
type count struct {
	name          string
	wide, reaches bool

	a, b, left, counter reg.GPVirtual
	t                   reg.VecVirtual
}

// less is the predicate of VCMPPS, false for a NaN.
const less = 1

// begin declares the kernel and loads what it is called with, but for t, whose
// place it returns.
func (c *count) begin() Mem {
	if c.reaches {
		TEXT(c.name, NOSPLIT, "func(a, b *float32, n int, t float32, spare int) bool")
		Doc(
			c.name+" tells whether at most spare of the n sums a[j]+b[j] are below t.",
			"It asks for 0 <= spare < n.",
		)
		c.b, c.counter = GP64(), GP64()
		Load(Param("b"), c.b)
		Load(Param("spare"), c.counter)
	} else {
		TEXT(c.name, NOSPLIT, "func(a *float32, n int, t float32) int")
		Doc(c.name + " is how many of n numbers are below t.")
		c.counter = GP64()
		XORQ(c.counter, c.counter)
	}
	Pragma("noescape")
	c.a, c.left = GP64(), GP64()
	Load(Param("a"), c.a)
	Load(Param("n"), c.left)
	threshold, err := Param("t").Resolve()
	if err != nil {
		panic(err)
	}
	return threshold.Addr
}

func (c count) generate() {
	threshold := c.begin()
	if c.wide {
		c.t = ZMM()
	} else {
		c.t = YMM()
	}
	VBROADCASTSS(threshold, c.t)

	if c.wide {
		c.stretch(64, c.below64)
		c.last512()
	} else {
		c.stretch(32, c.below32)
		c.stretch(8, c.below8)
		c.stretch(1, c.below1)
		c.end(false)
	}
	if c.reaches {
		Label("yes")
		c.end(true)
		Label("no")
		c.end(false)
	}
}

// stretch runs below for n numbers at a time while there are as many.
func (c count) stretch(n int, below func() reg.GPVirtual) {
	names := map[int]string{64: "sixtyfour", 32: "thirtytwo", 8: "eight", 1: "one"}
	loop, done := names[n], names[n]+"Done"
	Label(loop)
	CMPQ(c.left, U32(n))
	JLT(LabelRef(done))
	c.account(below())
	ADDQ(U32(4*n), c.a)
	if c.reaches {
		ADDQ(U32(4*n), c.b)
	}
	SUBQ(U32(n), c.left)
	if c.reaches {
		Comment("Those left cannot change it.")
		CMPQ(c.counter, c.left)
		JGE(LabelRef("yes"))
	}
	JMP(LabelRef(loop))
	Label(done)
}

// account takes the number of those below: off what may be below, with an end
// when that is used up, or to the count.
func (c count) account(below reg.GPVirtual) {
	if !c.reaches {
		ADDQ(below, c.counter)
		return
	}
	SUBQ(below, c.counter)
	JLT(LabelRef("no"))
}

// vector reads vector i of the numbers.
func (c count) vector(i int) reg.VecVirtual {
	v, size := reg.VecVirtual(ZMM()), 64
	if !c.wide {
		v, size = YMM(), 32
	}
	VMOVUPS(Mem{Base: c.a, Disp: i * size}, v)
	if c.reaches {
		VADDPS(Mem{Base: c.b, Disp: i * size}, v, v)
	}
	return v
}

func (c count) below64() reg.GPVirtual {
	var k [4]reg.OpmaskVirtual
	for i := range k {
		k[i] = K()
		VCMPPS(U8(less), c.t, c.vector(i), k[i])
	}
	KUNPCKWD(k[0], k[1], k[1])
	KUNPCKWD(k[2], k[3], k[3])
	KUNPCKDQ(k[1], k[3], k[3])
	n := GP64()
	KMOVQ(k[3], n)
	POPCNTQ(n, n)
	return n
}

// last512 takes the fewer than 64 numbers at the end, 16 at a time, the lanes
// beyond the end masked out.
func (c count) last512() {
	Label("last")
	TESTQ(c.left, c.left)
	JLE(LabelRef("finish"))
	lanes, bits, n := GP64(), GP32(), GP64()
	MOVQ(U32(16), lanes)
	CMPQ(c.left, lanes)
	CMOVQLT(c.left, lanes)
	MOVL(U32(1<<32-1), bits)
	BZHIL(lanes.As32(), bits, bits)
	inside, hit := K(), K()
	KMOVW(bits, inside)
	v := ZMM()
	VMOVUPS_Z(Mem{Base: c.a}, inside, v)
	if c.reaches {
		VADDPS_Z(Mem{Base: c.b}, v, inside, v)
	}
	VCMPPS(U8(less), c.t, v, inside, hit)
	KMOVW(hit, n.As32())
	POPCNTQ(n, n)
	c.account(n)
	ADDQ(U32(64), c.a)
	if c.reaches {
		ADDQ(U32(64), c.b)
	}
	SUBQ(U32(16), c.left)
	JMP(LabelRef("last"))
	Label("finish")
	if c.reaches {
		JMP(LabelRef("yes"))
	} else {
		c.end(false)
	}
}

// below32 packs four comparisons of eight numbers into bytes: all bits of a
// byte are set where its number is below.
func (c count) below32() reg.GPVirtual {
	var m [4]reg.VecVirtual
	for i := range m {
		m[i] = c.vector(i)
		VCMPPS(U8(less), c.t, m[i], m[i])
	}
	VPACKSSDW(m[1], m[0], m[0])
	VPACKSSDW(m[3], m[2], m[2])
	VPACKSSWB(m[2], m[0], m[0])
	n := GP64()
	VPMOVMSKB(m[0], n.As32())
	POPCNTL(n.As32(), n.As32())
	return n
}

func (c count) below8() reg.GPVirtual {
	v := c.vector(0)
	VCMPPS(U8(less), c.t, v, v)
	n := GP64()
	VMOVMSKPS(v, n.As32())
	POPCNTL(n.As32(), n.As32())
	return n
}

func (c count) below1() reg.GPVirtual {
	v := XMM()
	VMOVSS(Mem{Base: c.a}, v)
	if c.reaches {
		VADDSS(Mem{Base: c.b}, v, v)
	}
	n := GP64()
	XORQ(n, n)
	VUCOMISS(v, c.t.AsX()) // t with v: above means below t
	SETHI(n.As8())
	return n
}

// end returns the answer of reaches, or the count.
func (c count) end(answer bool) {
	VZEROUPPER()
	c.give(answer)
}

func (c count) give(answer bool) {
	switch {
	case c.reaches:
		r := GP8()
		bit := uint64(0)
		if answer {
			bit = 1
		}
		MOVB(U8(bit), r)
		Store(r, ReturnIndex(0))
	default:
		Store(c.counter, ReturnIndex(0))
	}
	RET()
}
