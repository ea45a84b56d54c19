package sampler

import (
	"cmp"
	"context"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
)

// direction says which K-th distances are sought.
type direction bool

const (
	farthest direction = false // outliers: large K-th distances
	nearest  direction = true  // inliers: small K-th distances
)

// Boundary describes the density of one class and the points that samples start
// from. Distances are squared L2 between unit vectors, of [0, 4].
type Boundary struct {
	Size, Dim         int       // of the bank
	K                 int       // neighbour, the point itself counted
	KthDistances      []float32 // to the K-th nearest row: of all rows; of a bank of 50,000 or more, where only the farthest are sought, of 512 evenly spaced ones
	Selected          []int     // rows selected, the most extreme first; ties to the smaller row
	SelectedDistances []float32 // [len(Selected)], to their K-th nearest row
}

// selectRows sets what is selected, where the distances of all rows are known.
func (b *Boundary) selectRows(rows []int) {
	b.Selected, b.SelectedDistances = slices.Clone(rows), make([]float32, len(rows))
	for i, row := range rows {
		b.SelectedDistances[i] = b.KthDistances[row]
	}
}

// findBoundary selects the rows of the bank with the most extreme exact distance
// to their K-th nearest row. Inliers, and outliers of a bank below [largeRows], take
// the N² distances of all rows; a large bank's outliers see [unitBank.farthestRows].
func findBoundary(ctx context.Context, bank *unitBank, p Params, d direction) (Boundary, error) {
	b := Boundary{Size: bank.Rows, Dim: bank.Cols, K: p.K}
	if d == farthest && bank.Rows >= largeRows {
		rows, distances, err := bank.farthestRows(ctx, p.K, p.Select)
		if err != nil {
			return Boundary{}, err
		}
		sample, err := bank.kthOfRows(ctx, evenly(bank.Rows, sampledRows), p.K)
		b.Selected, b.SelectedDistances, b.KthDistances = rows, rounded(distances), rounded(sample)
		return b, err
	}
	return wholeBoundary(ctx, bank, p, d)
}

// wholeBoundary is findBoundary by the distances of all rows.
func wholeBoundary(ctx context.Context, bank *unitBank, p Params, d direction) (Boundary, error) {
	b := Boundary{Size: bank.Rows, Dim: bank.Cols, K: p.K}
	kth, err := bank.kthOfRows(ctx, evenly(bank.Rows, bank.Rows), p.K)
	if err != nil {
		return Boundary{}, err
	}
	order := make([]int, bank.Rows)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		byDistance := cmp.Compare(kth[b], kth[a])
		if d == nearest {
			byDistance = -byDistance
		}
		return cmp.Or(byDistance, cmp.Compare(a, b))
	})
	b.KthDistances = rounded(kth)
	b.selectRows(order[:p.Select])
	return b, nil
}

// kthOfRows are the exact distances of some rows to their k-th nearest row of the
// bank, a portion of them at a time: N dot products of D terms each, in float32.
func (b *unitBank) kthOfRows(ctx context.Context, rows []int, k int) ([]float64, error) {
	kth := make([]float64, len(rows))
	queries := matrix.NewPacked(min(len(rows), b.portion()), b.Cols)
	products := matrix.New(queries.Rows, b.Rows)
	for from := 0; from < len(rows); from += queries.Rows {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		part := queries.Slice(0, min(queries.Rows, len(rows)-from))
		matrix.Each(part.Rows, 0, func(i int) { copy(part.Row(i), b.Row(rows[from+i])) })
		gram := b.product(products, part)
		matrix.Each(part.Rows, 0, func(i int) { kth[from+i] = b.kthWithin(rows[from+i], k, gram.Row(i)) })
	}
	return kth, nil
}

// rounded are distances as they are reported.
func rounded(kth []float64) []float32 {
	out := make([]float32, len(kth))
	for i, d := range kth {
		out[i] = float32(max(0, d))
	}
	return out
}
