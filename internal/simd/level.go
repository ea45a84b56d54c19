// Package simd holds the vector kernels that count and scale rows of float32,
// and says which instruction set this process uses; internal/matrix and
// internal/philox choose their kernels by it.
//
// # Choice
//
// The best set that the CPU and the operating system offer is used. The
// environment variable DREAMOOD_SIMD lowers it, for tests and benchmarks:
//
//	DREAMOOD_SIMD=portable  Go alone
//	DREAMOOD_SIMD=sse2      amd64: what every CPU has
//	DREAMOOD_SIMD=avx2      amd64: AVX2 with FMA
//	DREAMOOD_SIMD=avx512    amd64: AVX-512 F, DQ, BW and VL, with BMI2
//	DREAMOOD_SIMD=neon      arm64: what every CPU has
//
// A set that the CPU lacks is never used, whatever the variable says. Every
// function of this package gives the same bits at every level.
package simd

import (
	"fmt"
	"os"
	"slices"
)

// Set is an instruction set. Of two that one architecture has, the greater
// includes the smaller.
type Set int

// The sets that have kernels.
const (
	Portable Set = iota // Go alone
	SSE2                // SSE2, the least of amd64
	AVX2                // AVX2 with FMA
	AVX512              // AVX-512 F, DQ, BW and VL, with BMI2
	NEON                // Advanced SIMD, the least of arm64
)

var names = [...]string{"portable", "sse2", "avx2", "avx512", "neon"}

// String is the name that DREAMOOD_SIMD takes.
func (s Set) String() string { return names[s] }

// Variable is the environment variable that lowers the level.
const Variable = "DREAMOOD_SIMD"

var level = choose(detected(), os.Getenv(Variable))

// Level is the instruction set in use.
func Level() Set { return level }

// Levels are all sets of this architecture from Portable up to [Level].
func Levels() []Set {
	var all []Set
	for _, s := range offered {
		if s <= level {
			all = append(all, s)
		}
	}
	return all
}

// choose lowers best to the one named, where the architecture has it; it panics
// at a name it does not know, for a misspelt name would measure the wrong kernels.
func choose(best Set, name string) Set {
	if name == "" {
		return best
	}
	if s := slices.Index(names[:], name); s >= 0 {
		if !slices.Contains(offered, Set(s)) {
			return best
		}
		return min(best, Set(s))
	}
	panic(fmt.Sprintf("simd: %s is %q; set it to one of %v or unset it", Variable, name, names))
}
