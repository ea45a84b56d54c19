package philox

import "math"

// Normals fills dst with standard normal numbers. Element i depends on (key, i)
// alone.
func Normals(dst []float32, key Key) { NormalsAt(dst, key, 0) }

// NormalsAt fills dst with elements [offset, offset+len(dst)) of what Normals
// gives for key, so a long vector can be filled in pieces and in parallel.
func NormalsAt(dst []float32, key Key, offset uint64) {
	if len(dst) == 0 {
		return
	}
	checkRange(offset, len(dst))
	s := newStream(key)
	block := uint32(offset / 4)
	var edge [4]float32
	if skip := int(offset % 4); skip > 0 {
		s.normals(edge[:], block)
		dst = dst[copy(dst, edge[skip:]):]
		block++
	}
	for ; len(dst) >= 4; block++ {
		s.normals(dst, block)
		dst = dst[4:]
	}
	if len(dst) > 0 {
		s.normals(edge[:], block)
		copy(dst, edge[:])
	}
}

// normals fills dst[:4] from one block.
func (s *stream) normals(dst []float32, block uint32) {
	w0, w1, w2, w3 := cipher(block, s.step, s.a, s.b, s.key[0], s.key[1])
	_ = dst[3]
	dst[0], dst[1] = boxMuller(w0, w1)
	dst[2], dst[3] = boxMuller(w2, w3)
}

// boxMuller turns two words into two independent standard normals (Box and
// Muller 1958): r = sqrt(-2 ln u), u = (a+1/2)/2^32 in (0, 1), at the angle
// 2*pi*b/2^32. The largest magnitude is sqrt(66 ln 2) = 6.76.
func boxMuller(a, b uint32) (float32, float32) {
	u := (float64(a) + 0.5) * (1.0 / (1 << 32))
	r := math.Sqrt(-2 * logUnit(u))
	sin, cos := sincosTurn(b)
	return float32(r * cos), float32(r * sin)
}

// logUnit is the natural logarithm of a normal number of (0, 1), with an error
// below 1e-13 and the same bits everywhere, which math.Log does not promise.
// u = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m-1)/(m+1)).
func logUnit(u float64) float64 {
	const low = 0x3FE6A09E667F3BCD // bits of sqrt(1/2)
	bits := math.Float64bits(u)
	e := int64(bits-low) >> 52
	m := math.Float64frombits(bits - uint64(e)<<52)
	s := (m - 1) / (m + 1)
	z := float64(s * s) // below 0.0295: the series is cut at z^8/17
	p := float64(z*(1.0/17)) + 1.0/15
	p = float64(p*z) + 1.0/13
	p = float64(p*z) + 1.0/11
	p = float64(p*z) + 1.0/9
	p = float64(p*z) + 1.0/7
	p = float64(p*z) + 1.0/5
	p = float64(p*z) + 1.0/3
	p = float64(p*z) + 1
	return float64(float64(e)*math.Ln2) + float64(float64(2*s)*p)
}

// sincosTurn is the sine and cosine of 2*pi*b/2^32, with an error below 1e-13
// and the same bits everywhere. The angle is reduced exactly, in integers, to
// [-pi/4, pi/4) around a multiple of pi/2.
func sincosTurn(b uint32) (sin, cos float64) {
	quarter := (b + 1<<29) >> 30 & 3
	x := float64(int32(b-quarter<<30)) * (2 * math.Pi / (1 << 32))
	z := float64(x * x)

	s := float64(z*(1.0/6227020800)) - 1.0/39916800
	s = float64(s*z) + 1.0/362880
	s = float64(s*z) - 1.0/5040
	s = float64(s*z) + 1.0/120
	s = float64(s*z) - 1.0/6
	s = float64(s*z) + 1
	s = float64(s * x)

	c := float64(z*(-1.0/87178291200)) + 1.0/479001600
	c = float64(c*z) - 1.0/3628800
	c = float64(c*z) + 1.0/40320
	c = float64(c*z) - 1.0/720
	c = float64(c*z) + 1.0/24
	c = float64(c*z) - 1.0/2
	c = float64(c*z) + 1

	// Turn by quarter*pi/2 without a branch: it would be mispredicted.
	sb, cb := math.Float64bits(s), math.Float64bits(c)
	swap := (sb ^ cb) & -uint64(quarter&1)
	sb, cb = sb^swap, cb^swap
	return math.Float64frombits(sb ^ uint64(quarter>>1)<<63),
		math.Float64frombits(cb ^ uint64((quarter+1)>>1&1)<<63)
}
