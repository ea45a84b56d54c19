package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// operands are what a kernel is called with, in registers; the distances of rows
// in bytes.
type operands struct {
	k, b, c, lda, ldc reg.Register
	bases             []reg.Register // of rows 0, 3, 6, … of a
}

// begin declares a kernel and loads its operands.
func begin(name string, rows, columns int, contract ...string) operands {
	TEXT(name, NOSPLIT, "func(k int, a *float32, lda int, b *float32, c *float32, ldc int, start bool)")
	Pragma("noescape")
	Doc(append([]string{fmt.Sprintf("%s adds k steps to a tile of %d rows and %d columns of a·bᵀ:", name, rows, columns)}, contract...)...)
	o := operands{k: Load(Param("k"), GP64()), bases: []reg.Register{Load(Param("a"), GP64())}, lda: Load(Param("lda"), GP64())}
	o.b, o.c, o.ldc = Load(Param("b"), GP64()), Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
	SHLQ(Imm(2), o.lda)
	SHLQ(Imm(2), o.ldc)
	// Three rows share a base register: base, base+lda, base+2·lda.
	for len(o.bases)*3 < rows {
		next := GP64()
		LEAQ(Mem{Base: o.bases[len(o.bases)-1], Index: o.lda, Scale: 2}, next)
		ADDQ(o.lda, next)
		o.bases = append(o.bases, next)
	}
	return o
}

// left is where the number of a row of a stands, some steps on.
func (o operands) left(row, step int) Mem {
	m := Mem{Base: o.bases[row/3], Disp: 4 * step}
	if row%3 > 0 {
		m.Index, m.Scale = o.lda, uint8(row%3)
	}
	return m
}

// advance moves on in the rows of a.
func (o operands) advance(steps int) {
	for _, base := range o.bases {
		ADDQ(U32(4*steps), base)
	}
}
