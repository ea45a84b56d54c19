package score

import (
	"fmt"
	"math"
)

// ROCPoint is one point of the receiver operating characteristic with ID as the
// positive class: what is accepted when scores from Threshold on are.
type ROCPoint struct {
	FPR       float64  `json:"fpr"` // share of OOD accepted
	TPR       float64  `json:"tpr"` // share of ID accepted
	Threshold *float64 `json:"threshold,omitempty"`
}

// ROC is the curve from (0, 0), which has no threshold, to (1, 1), one point
// per distinct score. At most limit points are returned, evenly spaced along
// the curve with both ends kept; limit below 2 means all.
func ROC(id, ood []float64, limit int) ([]ROCPoint, error) {
	t, err := newTable(id, ood)
	if err != nil {
		return nil, err
	}
	all := make([]ROCPoint, 1, len(t)+1)
	var tp, fp int
	for i := range t {
		tp += t[i].id
		fp += t[i].ood
		all = append(all, ROCPoint{FPR: float64(fp) / float64(len(ood)), TPR: float64(tp) / float64(len(id)), Threshold: &t[i].score})
	}
	if limit < 2 || len(all) <= limit {
		return all, nil
	}
	// Along the curve FPR+TPR grows from 0 to 2: take the first point at or
	// beyond every step, so that steep parts get as many as flat ones.
	thin := make([]ROCPoint, 0, limit)
	last := -1
	for step := range limit {
		want := 2 * float64(step) / float64(limit-1)
		at := max(last, 0)
		for at < len(all)-1 && all[at].FPR+all[at].TPR < want {
			at++
		}
		if step == limit-1 {
			at = len(all) - 1
		}
		if at != last {
			thin = append(thin, all[at])
		}
		last = at
	}
	return thin, nil
}

// Histogram counts the scores of both sides in the same bins.
type Histogram struct {
	Edges []float64 `json:"edges"` // [B+1], evenly spaced; the last bin includes its right edge
	ID    []int     `json:"id"`    // [B]
	OOD   []int     `json:"ood"`   // [B]
}

// NewHistogram counts in bins between the smallest and the largest score.
func NewHistogram(id, ood []float64, bins int) (Histogram, error) {
	if err := check("ID", id); err != nil {
		return Histogram{}, err
	}
	if err := check("OOD", ood); err != nil {
		return Histogram{}, err
	}
	if bins < 1 {
		return Histogram{}, fmt.Errorf("a histogram of %d bins; take at least 1", bins)
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, side := range [][]float64{id, ood} {
		for _, s := range side {
			lo, hi = min(lo, s), max(hi, s)
		}
	}
	if lo == hi {
		lo, hi = lo-0.5, hi+0.5
	}
	h := Histogram{Edges: make([]float64, bins+1), ID: make([]int, bins), OOD: make([]int, bins)}
	for i := range h.Edges {
		h.Edges[i] = lo + (hi-lo)*float64(i)/float64(bins)
	}
	h.Edges[bins] = hi
	h.count(h.ID, id)
	h.count(h.OOD, ood)
	return h, nil
}

// count puts values into bins so that each lies between its edges.
func (h Histogram) count(bins []int, values []float64) {
	lo, hi := h.Edges[0], h.Edges[len(bins)]
	for _, v := range values {
		b := min(len(bins)-1, int((v-lo)/(hi-lo)*float64(len(bins))))
		if v < h.Edges[b] {
			b--
		} else if b+1 < len(bins) && v >= h.Edges[b+1] {
			b++
		}
		bins[b]++
	}
}
