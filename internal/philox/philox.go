// Package philox draws random numbers by counting instead of by keeping a
// state: every number is a pure function of a key and of its position, so any
// worker can compute any part of a sequence, in any order, and gets the same
// bits.
//
// The generator is Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel
// Random Numbers: As Easy as 1, 2, 3" (SC 2011). It passes BigCrush and is not
// for cryptography.
//
// # Streams
//
// A [Key] names one stream of up to 2^34 words. Its fields are spread with one
// Philox block, under the seed, over the 128 counter bits
// (purpose, class, index); two of the four resulting words become the cipher
// key of the stream and two the upper half of its counter, beside the step and
// the block number. Philox is a bijection of its counter for a fixed key, so
// two different keys of one seed never share a block.
//
// Every function here is bit-identical on every machine and with every kernel:
// the floating-point parts use only additions, multiplications and square roots
// of float32, each rounded by itself, with explicit conversions so that no
// compiler fuses them. Normal numbers come from AVX-512, AVX2 or SSE2 where the
// CPU has them (internal/simd).
package philox

import (
	"fmt"
	"hash/fnv"
)

// Round constants of Philox4x32 (Salmon et al., table 2).
const (
	mul0   = 0xD2511F53
	mul1   = 0xCD9E8D57
	weyl0  = 0x9E3779B9 // golden ratio
	weyl1  = 0xBB67AE85 // sqrt(3) - 1
	rounds = 10
)

// MaxWords is the length of one stream in 32-bit words.
const MaxWords = 1 << 34

// Key names one stream of random numbers. The zero value of a field is a value
// like any other.
type Key struct {
	Seed    uint64 // of the run or request
	Purpose string // what the numbers are for, for example "sampler.noise"
	Class   uint32 // class number
	Index   uint64 // item within the class: picture, embedding, shard, round
	Step    uint32 // step within the item: denoising step, epoch
}

// Block is one application of Philox4x32-10: four random words that depend on
// counter and key alone.
func Block(counter [4]uint32, key [2]uint32) [4]uint32 {
	w0, w1, w2, w3 := cipher(counter[0], counter[1], counter[2], counter[3], key[0], key[1])
	return [4]uint32{w0, w1, w2, w3}
}

// cipher is Block on scalars, which stay in registers where arrays would not.
func cipher(c0, c1, c2, c3, k0, k1 uint32) (w0, w1, w2, w3 uint32) {
	for range rounds {
		p0 := uint64(mul0) * uint64(c0)
		p1 := uint64(mul1) * uint64(c2)
		c0, c1, c2, c3 = uint32(p1>>32)^c1^k0, uint32(p1), uint32(p0>>32)^c3^k1, uint32(p0)
		k0 += weyl0
		k1 += weyl1
	}
	return c0, c1, c2, c3
}

// stream is a key made ready to draw from.
type stream struct {
	key        [2]uint32
	step, a, b uint32
}

// newStream spreads the fields of key; see the package comment.
func newStream(key Key) stream {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key.Purpose)) // never fails
	w := Block(
		[4]uint32{h.Sum32(), key.Class, uint32(key.Index), uint32(key.Index >> 32)},
		[2]uint32{uint32(key.Seed), uint32(key.Seed >> 32)},
	)
	return stream{key: [2]uint32{w[0], w[1]}, step: key.Step, a: w[2], b: w[3]}
}

// block returns words [4i, 4i+4) of the stream.
func (s *stream) block(i uint32) [4]uint32 {
	return Block([4]uint32{i, s.step, s.a, s.b}, s.key)
}

// fill calls put(at, words) for every block that overlaps elements
// [offset, offset+n); at is the index in the destination of the block's first
// word and may be negative for the first block.
func (s *stream) fill(n int, offset uint64, put func(at int, words [4]uint32)) {
	if n == 0 {
		return
	}
	checkRange(offset, n)
	first := offset / 4
	at := -int(offset % 4)
	for i := first; at < n; i++ {
		put(at, s.block(uint32(i)))
		at += 4
	}
}

// checkRange panics when elements [offset, offset+n) leave the stream: numbers
// would repeat silently.
func checkRange(offset uint64, n int) {
	if offset > MaxWords || uint64(n) > MaxWords-offset {
		panic(fmt.Sprintf("philox: elements [%d, %d+%d) are beyond the %d words of a stream; use another Index or Step", offset, offset, n, uint64(MaxWords)))
	}
}

// Uint32s fills dst with the first words of the stream of key.
func Uint32s(dst []uint32, key Key) { Uint32sAt(dst, key, 0) }

// Uint32sAt fills dst with words [offset, offset+len(dst)) of the stream of key.
func Uint32sAt(dst []uint32, key Key, offset uint64) {
	s := newStream(key)
	s.fill(len(dst), offset, func(at int, w [4]uint32) {
		for lane, v := range w {
			if i := at + lane; i >= 0 && i < len(dst) {
				dst[i] = v
			}
		}
	})
}

// Uniform fills dst with numbers of [0, 1), each a multiple of 2^-24: element i
// is made of word i of the stream.
func Uniform(dst []float32, key Key) { UniformAt(dst, key, 0) }

// UniformAt fills dst with elements [offset, offset+len(dst)) of what Uniform
// gives for key.
func UniformAt(dst []float32, key Key, offset uint64) {
	s := newStream(key)
	s.fill(len(dst), offset, func(at int, w [4]uint32) {
		for lane, v := range w {
			if i := at + lane; i >= 0 && i < len(dst) {
				dst[i] = float32(v>>8) * (1.0 / (1 << 24))
			}
		}
	})
}
