package sampler

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
)

// direction says which K-th distances are sought.
type direction bool

const (
	farthest direction = false // outliers: large K-th distances
	nearest  direction = true  // inliers: small K-th distances
)

// Boundary describes the density of one class and the points that samples start
// from.
type Boundary struct {
	Size, Dim    int       // of the bank
	K            int       // neighbour, the point itself counted
	KthDistances []float32 // [Size], squared L2 to the K-th nearest row; between unit vectors, so of [0, 4]
	Selected     []int     // rows selected, the most extreme first; ties to the smaller row
}

// findBoundary computes the K-th distance of every row of bank [N, D], unit
// norm, within the bank, and selects the most extreme rows.
func findBoundary(ctx context.Context, bank matrix.Matrix, p Params, d direction) (Boundary, error) {
	kth, err := knn.KthDistances(ctx, bank, bank, p.K)
	if err != nil {
		return Boundary{}, fmt.Errorf("k-th distances: %w", err)
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
	return Boundary{
		Size: bank.Rows, Dim: bank.Cols, K: p.K,
		KthDistances: kth,
		Selected:     order[:p.Select:p.Select],
	}, nil
}
