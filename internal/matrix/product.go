package matrix

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// A block of a product is what one worker computes at a time. Its rows of a,
// cut to depth columns, and one panel of b stay in a second-level cache of 512
// KiB; its height is a multiple of all kernels' heights, its breadth of all
// their widths.
const (
	blockRows = 96
	blockCols = 128
	depth     = 1024
)

// MulT sets dst = a·bᵀ, [a.Rows, b.Rows], on up to workers goroutines; 0 means
// GOMAXPROCS. It panics when the shapes do not fit. Where one b serves several
// products, [PackRight] and [MulRight] save packing it each time.
func MulT(dst Matrix, a, b *Packed, workers int) {
	checkShapes(dst, a, b.Rows, b.Cols)
	MulRight(dst, a, PackRight(b, workers), workers)
}

// MulRight is [MulT] with the right operand packed in advance.
func MulRight(dst Matrix, a *Packed, b *Right, workers int) {
	checkShapes(dst, a, b.Rows, b.Cols)
	down := (a.Rows + blockRows - 1) / blockRows
	across := (b.Rows + blockCols - 1) / blockCols
	Each(down*across, workers, func(t int) {
		mulBlock(dst, a, b, t/across*blockRows, t%across*blockCols)
	})
}

// SquaredNorms are the inner products of the rows with themselves, summed as
// the elements of a product are: equal rows cancel exactly in ‖a‖²+‖b‖²−2ab.
func SquaredNorms(p *Packed, workers int) []float32 {
	out := make([]float32, p.Rows)
	Each((p.Rows+Align-1)/Align, workers, func(t int) {
		rows := p.Slice(t*Align, min((t+1)*Align, p.Rows))
		square := New(rows.Rows, rows.Rows)
		MulT(square, rows, rows, 1)
		for i := range rows.Rows {
			out[t*Align+i] = square.Row(i)[i]
		}
	})
	return out
}

func checkShapes(dst Matrix, a *Packed, rows, cols int) {
	if a.Cols != cols || dst.Rows != a.Rows || dst.Cols != rows || len(dst.Data) != dst.Rows*dst.Cols {
		panic(fmt.Sprintf("matrix: [%d, %d] of %d numbers = [%d, %d]·[%d, %d]ᵀ", dst.Rows, dst.Cols, len(dst.Data), a.Rows, a.Cols, rows, cols))
	}
}

// mulBlock computes the block of dst that starts at row i and column j. The
// sums of a tile go on from one cut of the columns to the next, so the order of
// summation does not depend on depth.
func mulBlock(dst Matrix, a *Packed, b *Right, i, j int) {
	w := width(b.set)
	endRow, endCol := min(i+blockRows, a.Rows), min(j+blockCols, b.Rows)
	var edge [maxHeight * maxWidth]float32
	for ; j < endCol; j += w {
		panel, cols := b.panel(j/w), min(w, endCol-j)
		for from := 0; from == 0 || from < a.Cols; from += depth {
			k := min(depth, a.Cols-from)
			for row := i; row < endRow; {
				t := tile{set: b.set, rows: height(b.set, endRow-row), k: k, start: from == 0,
					a: a.data[row*a.stride+from:], lda: a.stride, b: panel[from*w:]}
				if c := dst.Data[row*dst.Cols+j:]; cols == w {
					t.run(c, dst.Cols)
				} else {
					t.runEdge(c, dst.Cols, cols, &edge)
				}
				row += t.rows
			}
		}
	}
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
