package matrix

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// lanes is what the length of packed rows is rounded up to, with zeros: the
// width of the unrolled kernel, and enough for every row to start aligned. The
// kernel's order of summation depends on neither then.
const lanes = 16

// tile is the edge of the blocks of a product, in rows. Below 64 x 128 the BLAS
// computes an element in one pass over the whole row.
const tile = 64

// Packed is a matrix laid out for [MulT]. Make one with [Pack] or [NewPacked].
type Packed struct {
	Rows, Cols int
	stride     int
	data       []float32
}

// NewPacked returns a packed matrix of zeros, to be filled row by row.
func NewPacked(rows, cols int) *Packed {
	stride := (cols + lanes - 1) / lanes * lanes
	return &Packed{Rows: rows, Cols: cols, stride: stride, data: make([]float32, rows*stride)}
}

// Pack copies m.
func Pack(m Matrix) *Packed {
	p := NewPacked(m.Rows, m.Cols)
	for i := range m.Rows {
		copy(p.Row(i), m.Row(i))
	}
	return p
}

// Row is row i, a view of Cols values.
func (p *Packed) Row(i int) []float32 {
	return p.data[i*p.stride : i*p.stride+p.Cols : i*p.stride+p.Cols]
}

// Slice is rows [from, to), a view.
func (p *Packed) Slice(from, to int) *Packed {
	return &Packed{Rows: to - from, Cols: p.Cols, stride: p.stride, data: p.data[from*p.stride : to*p.stride]}
}

// MulT sets dst = a·bᵀ, [a.Rows, b.Rows], on up to workers goroutines; 0 means
// GOMAXPROCS. It panics when the shapes do not fit.
func MulT(dst Matrix, a, b *Packed, workers int) {
	if a.Cols != b.Cols || dst.Rows != a.Rows || dst.Cols != b.Rows {
		panic(fmt.Sprintf("matrix: [%d, %d] = [%d, %d]·[%d, %d]ᵀ", dst.Rows, dst.Cols, a.Rows, a.Cols, b.Rows, b.Cols))
	}
	across := (a.Rows + tile - 1) / tile
	down := (b.Rows + tile - 1) / tile
	Each(across*down, workers, func(t int) {
		i, j := t/down*tile, t%down*tile
		mulTile(dst, a, b, i, min(tile, a.Rows-i), j, min(tile, b.Rows-j))
	})
}

// mulTile computes rows [i, i+m) and columns [j, j+n) of a·bᵀ.
func mulTile(dst Matrix, a, b *Packed, i, m, j, n int) {
	k := a.stride
	gonum.Implementation{}.Sgemm(blas.NoTrans, blas.Trans, m, n, k,
		1, a.data[i*k:], k, b.data[j*k:], k,
		0, dst.Data[i*dst.Cols+j:], dst.Cols)
}

// Each calls do(0) … do(n-1) on up to workers goroutines (0 means GOMAXPROCS)
// and returns when all are done. Which goroutine takes which item is not
// determined, so do must write only what belongs to its item.
func Each(n, workers int, do func(i int)) {
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, n)
	if workers < 2 {
		for i := range n {
			do(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}
