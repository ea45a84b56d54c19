// Package knn finds nearest neighbours exactly, by squared L2 distance, with
// one blocked matrix product instead of a search.
//
// ‖q−x‖² = ‖q‖² + ‖x‖² − 2 q·x in float32: for unit vectors the error is of the
// order of 1e-7; a vector far from the origin loses digits in proportion to its
// squared norm. Equal vectors are at distance 0 exactly.
//
// Results do not depend on the number of workers or on which queries are asked
// together. Equal distances are ordered by the smaller index.
package knn

import (
	"context"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
)

// Queries and bank rows per block: a block of distances is 48 x 1024 float32,
// 192 KiB per worker, whatever the size of the bank. The kernels' tiles divide
// both.
const (
	queryBlock = 48
	bankBlock  = 32 * matrix.Align
)

// Neighbour is one row of the bank, seen from a query.
type Neighbour struct {
	Index    int     // row of the bank
	Distance float32 // squared L2
}

// Index is a bank of vectors made ready for search. It is safe for concurrent
// use.
type Index struct {
	bank    *matrix.Right
	norms   []float32 // ‖x‖² per row
	workers int
}

// New copies the bank [N, D]. workers is how many goroutines a search may use;
// 0 means GOMAXPROCS. An empty bank, or a value that is not finite, is an
// error.
func New(bank matrix.Matrix, workers int) (*Index, error) {
	if err := bank.Check(); err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	if bank.Rows == 0 || bank.Cols == 0 {
		return nil, fmt.Errorf("bank: shape [%d, %d] holds nothing to search", bank.Rows, bank.Cols)
	}
	packed := matrix.Pack(bank)
	return &Index{bank: matrix.PackRight(packed, workers), norms: matrix.SquaredNorms(packed, workers), workers: workers}, nil
}

// Len is the number of rows in the bank.
func (x *Index) Len() int { return x.bank.Rows }

// KthDistances returns, for every query of [Q, D], the squared distance to its
// k-th nearest row of the bank, k counted from 1. A query that is itself in the
// bank counts itself.
func (x *Index) KthDistances(ctx context.Context, queries matrix.Matrix, k int) ([]float32, error) {
	out := make([]float32, queries.Rows)
	err := x.search(ctx, queries, k, func(q int, h *nearest) { out[q] = h.kth().Distance })
	return out, err
}

// Neighbours returns, for every query of [Q, D], its k nearest rows of the
// bank, nearest first.
func (x *Index) Neighbours(ctx context.Context, queries matrix.Matrix, k int) ([][]Neighbour, error) {
	out := make([][]Neighbour, queries.Rows)
	err := x.search(ctx, queries, k, func(q int, h *nearest) { out[q] = h.sorted() })
	return out, err
}

// KthDistances is Index.KthDistances of a bank that is used once.
func KthDistances(ctx context.Context, bank, queries matrix.Matrix, k int) ([]float32, error) {
	x, err := New(bank, 0)
	if err != nil {
		return nil, err
	}
	return x.KthDistances(ctx, queries, k)
}

// search calls done(q, its k nearest) once for every query, from several
// goroutines.
func (x *Index) search(ctx context.Context, queries matrix.Matrix, k int, done func(q int, h *nearest)) error {
	if err := queries.Check(); err != nil {
		return fmt.Errorf("queries: %w", err)
	}
	if queries.Rows > 0 && queries.Cols != x.bank.Cols {
		return fmt.Errorf("queries have %d columns and the bank %d", queries.Cols, x.bank.Cols)
	}
	if k < 1 || k > x.bank.Rows {
		return fmt.Errorf("k is %d; a bank of %d rows allows 1 to %d", k, x.bank.Rows, x.bank.Rows)
	}
	blocks := (queries.Rows + queryBlock - 1) / queryBlock
	matrix.Each(blocks, x.workers, func(b int) {
		from := b * queryBlock
		to := min(from+queryBlock, queries.Rows)
		part := matrix.Matrix{Rows: to - from, Cols: queries.Cols, Data: queries.Data[from*queries.Cols : to*queries.Cols]}
		for q, h := range x.block(ctx, part, k) {
			done(from+q, h)
		}
	})
	return context.Cause(ctx)
}

// block searches for up to queryBlock queries; it returns nothing when ctx ends.
func (x *Index) block(ctx context.Context, queries matrix.Matrix, k int) []*nearest {
	packed := matrix.Pack(queries)
	qn := matrix.SquaredNorms(packed, 1)
	heaps := make([]*nearest, queries.Rows)
	for q := range heaps {
		heaps[q] = newNearest(k, x.bank.Rows)
	}
	dots := make([]float32, queries.Rows*min(bankBlock, x.bank.Rows))
	for from := 0; from < x.bank.Rows; from += bankBlock {
		if ctx.Err() != nil {
			return nil
		}
		to := min(from+bankBlock, x.bank.Rows)
		d := matrix.Matrix{Rows: queries.Rows, Cols: to - from, Data: dots[:queries.Rows*(to-from)]}
		matrix.MulRight(d, packed, x.bank.Slice(from, to), 1)
		for q, h := range heaps {
			for j, dot := range d.Row(q) {
				h.offer(from+j, max(0, qn[q]+x.norms[from+j]-2*dot))
			}
		}
	}
	return heaps
}

// nearest collects the k smallest of a stream of neighbours: a buffer that is
// cut back to k by selection whenever it is full.
type nearest struct {
	k     int
	found []Neighbour
	limit Neighbour // the k-th so far; nothing behind it can matter
	full  bool
}

func newNearest(k, rows int) *nearest {
	return &nearest{k: k, found: make([]Neighbour, 0, min(2*k+64, rows))}
}

// offer adds a neighbour; indices come in rising order, so a distance equal to
// the limit's never matters.
func (h *nearest) offer(index int, distance float32) {
	if h.full && distance >= h.limit.Distance {
		return
	}
	if len(h.found) == cap(h.found) {
		h.cut()
		if distance >= h.limit.Distance {
			return
		}
	}
	h.found = append(h.found, Neighbour{index, distance})
}

// cut keeps the k smallest, in any order but for the k-th, which is last.
func (h *nearest) cut() {
	Select(h.found, h.k-1, before)
	h.found = h.found[:h.k]
	h.limit, h.full = h.found[h.k-1], true
}

func (h *nearest) kth() Neighbour {
	h.cut()
	return h.limit
}

func (h *nearest) sorted() []Neighbour {
	h.cut()
	slices.SortFunc(h.found, func(a, b Neighbour) int {
		if before(a, b) {
			return -1
		}
		return 1
	})
	return h.found
}

// before orders by distance, then by index.
func before(a, b Neighbour) bool {
	return a.Distance < b.Distance || a.Distance == b.Distance && a.Index < b.Index
}
