package trainer

import (
	"context"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
)

// Outliers that are copies of ID pictures teach a detector to refuse what it should accept. Whether some are is seen in
// small copies of the pictures, without their brightness and contrast: a nearest ID picture that lies much closer than ID
// pictures hardly ever lie to each other.
const (
	thumbnail = 16   // side of the small copies, in pixels
	looked    = 1000 // outliers, and ID pictures, that are looked at
	closest   = 0.01 // quantile of the ID pictures' own squared distances
	much      = 0.25 // share of that distance from which on a picture is a copy
	few       = 0.05 // share of copies from which on they are told
	most      = 0.5  // share from which on the set is refused
)

// CopiesError says that outliers are ID pictures.
type CopiesError struct{ share float64 }

// Error says how many, and what to do.
func (e *CopiesError) Error() string {
	return fmt.Sprintf("%.0f %% of the outliers are copies of ID training pictures, by the distance to the nearest: this looks like ID data given as outliers by mistake; give another set", 100*e.share)
}

// lookAlike warns of outliers that are copies of ID pictures; a set of which most are is a *CopiesError.
func lookAlike(ctx context.Context, id, outliers *dataset.Dataset) ([]string, error) {
	share, err := copies(ctx, id, outliers)
	switch {
	case err != nil:
		return nil, fmt.Errorf("compare outliers with ID pictures: %w", err)
	case share >= most:
		return nil, &CopiesError{share}
	case share >= few:
		return []string{fmt.Sprintf("%.0f %% of the outliers lie so near to an ID training picture that they look like copies; a detector that learns to refuse them refuses ID", 100*share)}, nil
	}
	return nil, nil
}

// copies is the share of outliers whose nearest ID picture lies much closer than all but closest of the ID pictures have
// another ID picture.
func copies(ctx context.Context, id, outliers *dataset.Dataset) (float64, error) {
	bank := thumbnails(id, spreadOver(id.Len(), id.Len()))
	index, err := knn.New(bank, 0)
	if err != nil {
		return 0, err
	}
	own, err := index.KthDistances(ctx, thumbnails(id, spreadOver(id.Len(), looked)), 2) // the first is the picture itself
	if err != nil {
		return 0, err
	}
	near, err := index.KthDistances(ctx, thumbnails(outliers, spreadOver(outliers.Len(), looked)), 1)
	if err != nil {
		return 0, err
	}
	slices.Sort(own)
	limit := much * own[int(closest*float64(len(own)))]
	n := 0
	for _, d := range near {
		if d <= limit { // 0 where ID pictures repeat: then only exact copies
			n++
		}
	}
	return float64(n) / float64(len(near)), nil
}

// spreadOver are at most m of n positions, evenly spread.
func spreadOver(n, m int) []int {
	m = min(n, m)
	at := make([]int, m)
	for i := range at {
		at[i] = i * n / m
	}
	return at
}

// thumbnails are small copies of pictures, means over equal cells, with their mean taken away, at length 1; a picture of
// one colour stays zero: [len(at), 3·thumbnail²].
func thumbnails(ds *dataset.Dataset, at []int) matrix.Matrix {
	out := matrix.New(len(at), 3*thumbnail*thumbnail)
	cell := max(1, ds.Size/thumbnail)
	side := min(thumbnail*cell, ds.Size)
	for k, i := range at {
		picture, row := ds.Image(i), out.Row(k)
		for y := range side {
			for x := range side {
				for c := range 3 {
					row[((y/cell)*thumbnail+x/cell)*3+c] += float32(picture[(y*ds.Size+x)*3+c])
				}
			}
		}
		var mean float32
		for _, v := range row {
			mean += v / float32(len(row))
		}
		for j := range row {
			row[j] -= mean
		}
		if length := matrix.Norm(row); length > 1e-3 {
			for j := range row {
				row[j] /= float32(length)
			}
		}
	}
	return out
}
