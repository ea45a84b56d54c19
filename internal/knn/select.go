package knn

import (
	"math"

	"github.com/dreamood/dreamood/internal/simd"
)

// Select reorders s so that s[k] is the element that a sort by before would put
// there, with nothing behind it smaller and nothing in front of it larger
// (Hoare's quickselect, median of three). k must be an index of s.
func Select[T any](s []T, k int, before func(a, b T) bool) {
	lo, hi := 0, len(s)-1
	for lo < hi {
		pivot := medianOfThree(s[lo], s[lo+(hi-lo)/2], s[hi], before)
		i, j := lo, hi
		for i <= j {
			for before(s[i], pivot) {
				i++
			}
			for before(pivot, s[j]) {
				j--
			}
			if i <= j {
				s[i], s[j] = s[j], s[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return
		}
	}
}

func medianOfThree[T any](a, b, c T, before func(a, b T) bool) T {
	if before(b, a) {
		a, b = b, a
	}
	if before(c, b) {
		b = c
		if before(b, a) {
			b = a
		}
	}
	return b
}

// KthLargest is the k-th largest of s, k counted from 1. It may reorder s, whose
// values are finite.
func KthLargest(s []float32, k int) float32 {
	if simd.Level() == simd.Portable {
		return partition(s, k)
	}
	return bisect(s, k)
}

// bisect finds the largest number that k of s are no less than, from its first
// bit to its last: 32 counts, without a branch to mispredict. Zeros are equal.
func bisect(s []float32, k int) float32 {
	var key uint32
	for bit := uint32(1 << 31); bit > 0; bit >>= 1 {
		// The largest keys are the infinity and NaNs, which no number reaches.
		if try := ordered(key | bit); try <= math.MaxFloat32 && simd.CountAtLeast(s, try) >= k {
			key |= bit
		}
	}
	return ordered(key)
}

// ordered is number key of all float32 in rising order.
func ordered(key uint32) float32 {
	if key>>31 == 0 {
		return math.Float32frombits(^key)
	}
	return math.Float32frombits(key &^ (1 << 31))
}

// partition is Hoare's quickselect.
func partition(s []float32, k int) float32 {
	lo, hi, at := 0, len(s)-1, k-1
	for lo < hi {
		pivot := s[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for s[i] > pivot {
				i++
			}
			for s[j] < pivot {
				j--
			}
			if i <= j {
				s[i], s[j] = s[j], s[i]
				i++
				j--
			}
		}
		switch {
		case at <= j:
			hi = j
		case at >= i:
			lo = i
		default:
			return s[at]
		}
	}
	return s[at]
}
