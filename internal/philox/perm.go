package philox

import "fmt"

// Perm returns a permutation of [0, n) drawn uniformly (to the resolution of
// the stream) by the forward Fisher–Yates shuffle, without modulo bias.
func Perm(n int, key Key) []int { return Choose(n, n, key) }

// Choose draws k of [0, n) without replacement, in the order drawn: the first k
// elements of Perm(n, key). It panics unless 0 <= k <= n < 2^32.
func Choose(n, k int, key Key) []int {
	if k < 0 || k > n || uint64(n) >= 1<<32 {
		panic(fmt.Sprintf("philox: choose %d of %d", k, n))
	}
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	r := reader{stream: newStream(key)}
	for i := range k {
		j := i + int(r.below(uint32(n-i)))
		p[i], p[j] = p[j], p[i]
	}
	return p[:k:k]
}

// reader takes the words of a stream one after the other.
type reader struct {
	stream stream
	words  [4]uint32
	next   uint64
}

func (r *reader) word() uint32 {
	if r.next%4 == 0 {
		checkRange(r.next, 4)
		r.words = r.stream.block(uint32(r.next / 4))
	}
	w := r.words[r.next%4]
	r.next++
	return w
}

// below draws from [0, n) without bias, n > 0: the multiply-and-reject method
// of Lemire, "Fast Random Integer Generation in an Interval" (2019).
func (r *reader) below(n uint32) uint32 {
	p := uint64(r.word()) * uint64(n)
	if uint32(p) < n {
		for reject := -n % n; uint32(p) < reject; {
			p = uint64(r.word()) * uint64(n)
		}
	}
	return uint32(p >> 32)
}
