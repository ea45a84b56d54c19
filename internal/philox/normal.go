package philox

import (
	"math"

	"github.com/dreamood/dreamood/internal/simd"
)

// Normals fills dst with standard normal numbers. Element i depends on (key, i)
// alone.
func Normals(dst []float32, key Key) { NormalsAt(dst, key, 0) }

// NormalsAt fills dst with elements [offset, offset+len(dst)) of what Normals
// gives for key, so a long vector can be filled in pieces and in parallel.
func NormalsAt(dst []float32, key Key, offset uint64) { normalsAt(simd.Level(), dst, key, offset) }

// ScaledNormalsAt is NormalsAt with every number times sigma, rounded to
// float32. It returns the sum of the squares of what it wrote, in float64 and
// in the order of [simd.ScaleSquares].
func ScaledNormalsAt(dst []float32, key Key, offset uint64, sigma float32) float64 {
	NormalsAt(dst, key, offset)
	return simd.ScaleSquares(dst, sigma)
}

func normalsAt(set simd.Set, dst []float32, key Key, offset uint64) {
	if len(dst) == 0 {
		return
	}
	checkRange(offset, len(dst))
	d := newDraw(newStream(key), uint32(offset/4))
	var some [maxGroup]float32
	if skip := int(offset % 4); skip > 0 {
		d.normals(simd.Portable, some[:4])
		dst = dst[copy(dst, some[skip:4]):]
	}
	g := group(set)
	if whole := len(dst) / g * g; whole > 0 {
		d.normals(set, dst[:whole])
		dst = dst[whole:]
	}
	if len(dst) > 0 {
		d.normals(set, some[:g])
		copy(dst, some[:])
	}
}

// maxGroup is the largest group of numbers that a kernel writes at a time.
const maxGroup = 64

// group is the number of normals that the kernel of a set writes at a time.
func group(set simd.Set) int {
	return [...]int{simd.Portable: 4, simd.SSE2: 8, simd.AVX2: 16, simd.AVX512: maxGroup, simd.NEON: 4}[set]
}

// draw is a stream that kernels draw from, block after block. Kernels know its
// layout.
type draw struct {
	keys       [rounds][2]uint32 // of the rounds
	block      uint32            // the next one
	step, a, b uint32            // the rest of the counter
	mul        [2]uint32
}

func newDraw(s stream, block uint32) draw {
	d := draw{block: block, step: s.step, a: s.a, b: s.b, mul: [2]uint32{mul0, mul1}}
	k := s.key
	for r := range d.keys {
		d.keys[r] = k
		k[0] += weyl0
		k[1] += weyl1
	}
	return d
}

// portableNormals fills dst, of whole blocks, in Go.
func (d *draw) portableNormals(dst []float32) {
	for ; len(dst) >= 4; dst = dst[4:] {
		w0, w1, w2, w3 := cipher(d.block, d.step, d.a, d.b, d.keys[0][0], d.keys[0][1])
		dst[0], dst[1] = boxMuller(w0, w1)
		dst[2], dst[3] = boxMuller(w2, w3)
		d.block++
	}
}

// boxMuller turns two words into two independent standard normals (Box and
// Muller 1958): r = sqrt(-2 ln u), u = (a+1/2)/2^32 in (0, 1), at the angle
// 2*pi*(floor(b/64)+1/2)/2^26. The largest magnitude is sqrt(66 ln 2) = 6.76.
// Both are within 4 units in the last place.
func boxMuller(a, b uint32) (float32, float32) {
	r := float32(math.Sqrt(float64(squaredRadius(a))))
	sin, cos := sincosTurn(b)
	return float32(r * cos), float32(r * sin)
}

// transform holds the constants of boxMuller. Kernels know its layout. The
// polynomials are minimax in relative error, fitted with their constants
// rounded to float32.
type transform struct {
	half, toUnit, one float32
	third             uint32 // bits of 2/3
	ln2Low, ln2High   float32
	log               [8]float32 // (-2 ln(1+f) + 2f - f²)/f³ for |f| <= 1/3
	eighth, quarters  uint32
	sign, quarter     uint32
	odd               uint32
	toTurn, twoPi     float32
	sine              [4]float32 // (sin 2πx)/x - twoPi, in x², for |x| <= 1/8
	cosine            [4]float32 // ((cos 2πx) - 1)/x², in x²
}

var constants = transform{
	half: 0.5, toUnit: 0x1p-32, one: 1,
	third: 0x3F2AAAAB,
	// -2 ln 2 in two parts, the high one of ten bits.
	ln2Low: 2 * 2.12194440e-4, ln2High: -2 * 0.693359375,
	log: [8]float32{
		-0.6666643023490906, 0.4999959468841553, -0.40020811557769775, 0.33360975980758667,
		-0.28011736273765564, 0.24368524551391602, -0.2796888053417206, 0.2578335702419281,
	},
	eighth: 1 << 29, quarters: 3 << 30, sign: 1 << 31, quarter: 1 << 30, odd: 1,
	toTurn: 0x1p-27, twoPi: 6.2831854820251465,
	sine:   [4]float32{-1.9519181648774975e-07, -41.3416633605957, 81.59235382080078, -75.39356231689453},
	cosine: [4]float32{-19.739208221435547, 64.93932342529297, -85.4432373046875, 59.229244232177734},
}

// squaredRadius is -2 ln((a+1/2)/2^32). With v the word as a signed number plus
// 1/2, over 2^32, u is v, or 1+v where v is negative: so neither end of (0, 1)
// loses digits. u = 2^e (1+f) with 1+f in [2/3, 4/3).
func squaredRadius(a uint32) float32 {
	c := &constants
	y := float32(int32(a)) + c.half
	v := float32(y * c.toUnit)
	negative := uint32(int32(math.Float32bits(y)) >> 31)
	u := v + math.Float32frombits(negative&math.Float32bits(c.one))
	e := int32(math.Float32bits(u)-c.third) >> 23
	scale := math.Float32bits(c.one) - uint32(e)<<23 // 2^-e
	f := float32(v*math.Float32frombits(scale)) + (math.Float32frombits(negative&scale) - c.one)
	square := float32(f * f)
	p := float32(polynomial8(&c.log, f) * float32(f*square))
	p += float32(float32(e) * c.ln2Low)
	p += square
	p -= f + f
	p += float32(float32(e) * c.ln2High)
	return p
}

// sincosTurn is the sine and cosine of 2*pi*(floor(b/64)+1/2)/2^26. The angle
// is reduced exactly, in integers, to [-pi/4, pi/4) around a multiple of pi/2.
func sincosTurn(b uint32) (sin, cos float32) {
	c := &constants
	turned := (b + c.eighth) & c.quarters
	x := float32(float32(int32(b-turned)>>5|1) * c.toTurn)
	z := float32(x * x)
	s := float32(polynomial4(&c.sine, z)*x) + float32(x*c.twoPi)
	k := float32(polynomial4(&c.cosine, z)*z) + c.one

	// Turn by a multiple of pi/2 without a branch: it would be mispredicted.
	sb, cb := math.Float32bits(s), math.Float32bits(k)
	swap := (sb ^ cb) & uint32(int32(turned<<1)>>31)
	sb, cb = sb^swap, cb^swap
	return math.Float32frombits(sb ^ turned&c.sign), math.Float32frombits(cb ^ (turned+c.quarter)&c.sign)
}

func polynomial4(c *[4]float32, x float32) float32 {
	p := float32(c[3]*x) + c[2]
	p = float32(p*x) + c[1]
	return float32(p*x) + c[0]
}

func polynomial8(c *[8]float32, x float32) float32 {
	p := float32(c[7]*x) + c[6]
	p = float32(p*x) + c[5]
	p = float32(p*x) + c[4]
	p = float32(p*x) + c[3]
	p = float32(p*x) + c[2]
	p = float32(p*x) + c[1]
	return float32(p*x) + c[0]
}
