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
//	DREAMOOD_SIMD=avx2      AVX2 with FMA
//	DREAMOOD_SIMD=avx512    AVX-512 F, DQ, BW and VL, with BMI2
//
// A set that the CPU lacks is never used, whatever the variable says. Every
// function of this package gives the same bits at every level.
package simd

import (
	"fmt"
	"os"
)

// Set is an instruction set; a greater one includes the smaller ones.
type Set int

// The sets that have kernels.
const (
	Portable Set = iota // Go alone
	AVX2                // AVX2 with FMA
	AVX512              // AVX-512 F, DQ, BW and VL, with BMI2
)

var names = [...]string{"portable", "avx2", "avx512"}

// String is the name that DREAMOOD_SIMD takes.
func (s Set) String() string { return names[s] }

// Variable is the environment variable that lowers the level.
const Variable = "DREAMOOD_SIMD"

var level = choose(detected(), os.Getenv(Variable))

// Level is the instruction set in use.
func Level() Set { return level }

// Levels are all sets from Portable up to [Level].
func Levels() []Set {
	all := []Set{Portable, AVX2, AVX512}
	return all[:level+1]
}

// choose lowers best to the one named; it panics at a name it does not know,
// for a misspelt name would measure the wrong kernels.
func choose(best Set, name string) Set {
	if name == "" {
		return best
	}
	for s, n := range names {
		if n == name {
			return min(best, Set(s))
		}
	}
	panic(fmt.Sprintf("simd: %s is %q; set it to one of %v or unset it", Variable, name, names))
}
