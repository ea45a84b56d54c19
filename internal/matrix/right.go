package matrix

import (
	"fmt"
	"unsafe"

	"github.com/dreamood/dreamood/internal/simd"
)

// Right is a matrix laid out as the right operand b of a·bᵀ, to be packed once
// and used in many products. It is immutable and safe for concurrent use.
//
// Its rows stand in panels of as many rows as the kernel's tiles have columns;
// a panel holds the first number of all its rows, then the second, and so on.
// The rows that the last panel lacks are zeros.
type Right struct {
	Rows, Cols int
	set        simd.Set
	data       []float32 // [panels, Cols, width(set)]
}

// PackRight copies b [N, D] on up to workers goroutines; 0 means GOMAXPROCS.
func PackRight(b *Packed, workers int) *Right { return packRight(simd.Level(), b, workers) }

func packRight(set simd.Set, b *Packed, workers int) *Right {
	w := width(set)
	panels := (b.Rows + w - 1) / w
	r := &Right{Rows: b.Rows, Cols: b.Cols, set: set, data: aligned(panels * w * b.Cols)}
	Each(panels, workers, func(p int) {
		panel := r.panel(p)
		for i := range min(w, b.Rows-p*w) {
			for j, v := range b.Row(p*w + i) {
				panel[j*w+i] = v
			}
		}
	})
	return r
}

// panel is panel p, [Cols, width].
func (r *Right) panel(p int) []float32 {
	size := r.Cols * width(r.set)
	return r.data[p*size : (p+1)*size : (p+1)*size]
}

// Align is what the bounds of a [Right.Slice] are multiples of.
const Align = 32

// Slice is rows [from, to), a view. from must be a multiple of [Align], and to
// too, or the last row.
func (r *Right) Slice(from, to int) *Right {
	if from < 0 || to < from || to > r.Rows || from%Align != 0 || to%Align != 0 && to != r.Rows {
		panic(fmt.Sprintf("matrix: rows [%d, %d) of %d; bounds are multiples of %d", from, to, r.Rows, Align))
	}
	w := width(r.set)
	return &Right{Rows: to - from, Cols: r.Cols, set: r.set, data: r.data[from*r.Cols : (to+w-1)/w*w*r.Cols]}
}

// aligned returns n zeros that start at a line of the cache: a vector that
// crosses two lines costs twice, and kernels of SSE2 need multiples of 16 bytes.
func aligned(n int) []float32 {
	s := make([]float32, n+line)
	skip := 0
	if off := uintptr(unsafe.Pointer(unsafe.SliceData(s))) / 4 % line; off > 0 {
		skip = line - int(off)
	}
	return s[skip : skip+n : skip+n]
}
