package sampler

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/simd"
)

const (
	// largeRows is the size from which the farthest rows are found by bounds.
	largeRows = 50_000
	// sampledRows of a large bank have their distances computed for the report.
	sampledRows = 512
	// cellQueries rows of one cell are bounded together.
	cellQueries = 512
	// contenders rows at once are compared with the bank until they are out.
	contenders = 1024
)

// cells is a coarse partition of a bank: every row belongs to the nearest of some
// rows drawn as pivots. It only decides where to look first.
type cells struct {
	pivots *matrix.Packed
	rows   []int // of the bank, cell after cell
	start  []int // of each cell in rows; one more at the end
}

// farthestRows finds the n rows of the largest exact distance to their k-th
// nearest row, without the N² distances of [kthOfAll]. The k-th smallest distance
// of a row to any part of the bank is no less than that to all of it. So the rows
// near by, those of the cells around, give an upper bound that is nearly reached;
// and in the order of their bounds rows are compared with the bank, until the next
// bound is below the n-th largest exact distance found. No row behind it can be
// among the n, whatever the cells are. Most rows before it are out long before the
// whole bank was seen (see [unitBank.survivors]).
func (b *unitBank) farthestRows(ctx context.Context, k, n int) ([]int, []float64, error) {
	c, err := b.cells(ctx)
	if err != nil {
		return nil, nil, err
	}
	bounds, err := b.upperBounds(ctx, c, k)
	if err != nil {
		return nil, nil, err
	}
	order := make([]int, b.Rows)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return cmp.Or(cmp.Compare(bounds[y], bounds[x]), cmp.Compare(x, y)) })
	type found struct {
		row int
		kth float64
	}
	var best []found
	for at, step := 0, n; at < len(order); at, step = at+step, contenders {
		if len(best) == n && float64(bounds[order[at]]) < best[n-1].kth {
			break
		}
		rows := order[at:min(at+step, len(order))]
		if len(best) == n {
			if rows, err = b.survivors(ctx, rows, k, best[n-1].kth); err != nil {
				return nil, nil, err
			}
		}
		kth, err := b.kthOfRows(ctx, rows, k)
		if err != nil {
			return nil, nil, err
		}
		for i, row := range rows {
			best = append(best, found{row, kth[i]})
		}
		slices.SortFunc(best, func(x, y found) int { return cmp.Or(cmp.Compare(y.kth, x.kth), cmp.Compare(x.row, y.row)) })
		best = best[:min(n, len(best))]
	}
	rows, kth := make([]int, len(best)), make([]float64, len(best))
	for i, f := range best {
		rows[i], kth[i] = f.row, f.kth
	}
	return rows, kth, nil
}

// cells partitions the bank around about √N pivots.
func (b *unitBank) cells(ctx context.Context) (cells, error) {
	count := 1
	for count*count < b.Rows {
		count *= 2
	}
	count = min(count, b.Rows)
	c := cells{pivots: matrix.NewPacked(count, b.Cols), rows: make([]int, b.Rows), start: make([]int, count+1)}
	for i, row := range philox.Choose(b.Rows, count, philox.Key{Purpose: "sampler.cells"}) {
		copy(c.pivots.Row(i), b.Row(row))
	}
	right := matrix.PackRight(c.pivots, 0)
	tile, products, of := matrix.NewPacked(tileRows, b.Cols), matrix.New(tileRows, count), make([]int, b.Rows)
	for from := 0; from < b.Rows; from += tileRows {
		if err := context.Cause(ctx); err != nil {
			return cells{}, err
		}
		n := min(tileRows, b.Rows-from)
		matrix.Each(n, 0, func(i int) { copy(tile.Row(i), b.Row(from+i)) })
		part := matrix.Matrix{Rows: n, Cols: count, Data: products.Data[:n*count]}
		matrix.MulRight(part, tile.Slice(0, n), right, 0)
		matrix.Each(n, 0, func(i int) {
			best := 0
			for j, v := range part.Row(i) {
				if v > part.Row(i)[best] {
					best = j
				}
			}
			of[from+i] = best
		})
	}
	for _, cell := range of {
		c.start[cell+1]++
	}
	for i := range count {
		c.start[i+1] += c.start[i]
	}
	next := slices.Clone(c.start[:count])
	for row, cell := range of {
		c.rows[next[cell]] = row
		next[cell]++
	}
	return c, nil
}

// around are at most want rows of the cells nearest to a cell, its own first;
// toPivots is the products of its pivot with all pivots.
func (c cells) around(cell, want int, toPivots []float32) []int {
	order := make([]int, len(toPivots))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int {
		if x == cell || y == cell {
			return cmp.Compare(btoi(y == cell), btoi(x == cell))
		}
		return cmp.Or(cmp.Compare(toPivots[y], toPivots[x]), cmp.Compare(x, y))
	})
	var rows []int
	for _, other := range order {
		if len(rows) >= want {
			break
		}
		rows = append(rows, c.rows[c.start[other]:c.start[other+1]]...)
	}
	return rows[:min(want, len(rows))]
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// upperBounds bounds the squared distance of every row to its k-th nearest row
// from above: by the k-th nearest among the rows of the cells around it.
func (b *unitBank) upperBounds(ctx context.Context, c cells, k int) ([]float32, error) {
	want := min(b.Rows, max(4096, 8*k))
	toPivots := matrix.New(c.pivots.Rows, c.pivots.Rows)
	matrix.MulT(toPivots, c.pivots, c.pivots, 0)
	largest := slices.Max(b.squares)
	bounds := make([]float32, b.Rows)
	near, queries, products := matrix.NewPacked(want, b.Cols), matrix.NewPacked(cellQueries, b.Cols), matrix.New(cellQueries, want)
	for cell := range c.pivots.Rows {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		own := c.rows[c.start[cell]:c.start[cell+1]]
		if len(own) == 0 {
			continue
		}
		others := c.around(cell, want, toPivots.Row(cell))
		matrix.Each(len(others), 0, func(i int) { copy(near.Row(i), b.Row(others[i])) })
		right := matrix.PackRight(near.Slice(0, len(others)), 0)
		for from := 0; from < len(own); from += cellQueries {
			part := own[from:min(from+cellQueries, len(own))]
			matrix.Each(len(part), 0, func(i int) { copy(queries.Row(i), b.Row(part[i])) })
			p := matrix.Matrix{Rows: len(part), Cols: len(others), Data: products.Data[:len(part)*len(others)]}
			matrix.MulRight(p, queries.Slice(0, len(part)), right, 0)
			matrix.Each(len(part), 0, func(i int) {
				lo, _ := bracket(p.Row(i), k, -2, 2, b.margin)
				bounds[part[i]] = math.Nextafter32(float32(2*largest-2*(float64(lo)-b.margin)), 5)
			})
		}
	}
	return bounds, nil
}

// evenly are at most n of the numbers below size, evenly spaced.
func evenly(size, n int) []int {
	n = min(n, size)
	out := make([]int, n)
	for i := range out {
		out[i] = i * size / n
	}
	return out
}

// survivors are the rows whose distance to their k-th nearest row may be floor or
// more, in their order. A row is out as soon as k rows of the bank are certainly
// nearer to it than that; a row that stays was compared with all of them.
func (b *unitBank) survivors(ctx context.Context, rows []int, k int, floor float64) ([]int, error) {
	// A row whose product is at least this is nearer than floor, by the bound of upperBounds.
	certain := math.Nextafter32(float32(slices.Max(b.squares)+b.margin-floor/2), 5)
	queries, near := matrix.NewPacked(len(rows), b.Cols), make([]int, len(rows))
	matrix.Each(len(rows), 0, func(i int) { copy(queries.Row(i), b.Row(rows[i])) })
	rows = slices.Clone(rows)
	tile, products := matrix.NewPacked(tileRows, b.Cols), matrix.New(len(rows), tileRows)
	for from := 0; from < b.Rows && len(rows) > 0; from += tileRows {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		n := min(tileRows, b.Rows-from)
		matrix.Each(n, 0, func(i int) { copy(tile.Row(i), b.Row(from+i)) })
		part := matrix.Matrix{Rows: len(rows), Cols: n, Data: products.Data[:len(rows)*n]}
		matrix.MulRight(part, queries.Slice(0, len(rows)), matrix.PackRight(tile.Slice(0, n), 0), 0)
		matrix.Each(len(rows), 0, func(i int) { near[i] += simd.CountAtLeast(part.Row(i), certain) })
		left := 0
		for i, row := range rows {
			if near[i] >= k {
				continue
			}
			if left < i {
				rows[left], near[left] = row, near[i]
				copy(queries.Row(left), queries.Row(i))
			}
			left++
		}
		rows = rows[:left]
	}
	return rows, nil
}
