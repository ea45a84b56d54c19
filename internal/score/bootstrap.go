package score

import (
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/philox"
)

// Interval is a confidence interval.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Intervals are those of the metrics.
type Intervals struct {
	AUROC            Interval `json:"auroc"`
	AUPRIn           Interval `json:"aupr_in"`
	AUPROut          Interval `json:"aupr_out"`
	FPR95IDPositive  Interval `json:"fpr95_id_positive"`
	FPR95OODPositive Interval `json:"fpr95_ood_positive"`
}

// Bootstrap gives percentile intervals of the given level, for example 0.95, by
// drawing ID and OOD samples anew, each with replacement, the given number of
// times (Efron and Tibshirani 1993, chapter 13). It says how sure the metrics
// are for these test sets, not how much another training run would change them.
func Bootstrap(id, ood []float64, resamples int, level float64, seed uint64) (Intervals, error) {
	t, err := newTable(id, ood)
	if err != nil {
		return Intervals{}, err
	}
	if resamples < 2 || !(level > 0 && level < 1) {
		return Intervals{}, fmt.Errorf("bootstrap with %d resamples at level %v; take at least 2, and a level between 0 and 1", resamples, level)
	}
	owners := t.owners()
	values := make([][]float64, 5)
	for r := range resamples {
		m := t.resampled(owners, philox.Key{Seed: seed, Purpose: "score.bootstrap", Index: uint64(r)}).metrics()
		for i, v := range []float64{m.AUROC, m.AUPRIn, m.AUPROut, m.FPR95IDPositive, m.FPR95OODPositive} {
			values[i] = append(values[i], v)
		}
	}
	var out Intervals
	for i, interval := range []*Interval{&out.AUROC, &out.AUPRIn, &out.AUPROut, &out.FPR95IDPositive, &out.FPR95OODPositive} {
		*interval = Middle(values[i], level)
	}
	return out, nil
}

// owners are, for every ID and every OOD sample, the tie that it belongs to.
func (t table) owners() (o [2][]int) {
	for i, x := range t {
		o[0] = append(o[0], slices.Repeat([]int{i}, x.id)...)
		o[1] = append(o[1], slices.Repeat([]int{i}, x.ood)...)
	}
	return o
}

// resampled draws as many ID and OOD samples as there are, with replacement.
func (t table) resampled(owners [2][]int, key philox.Key) table {
	out := make(table, len(t))
	for i, x := range t {
		out[i].score = x.score
	}
	for side, own := range owners {
		key.Step = uint32(side)
		for i, n := range Draws(len(own), key) {
			x := &out[own[i]]
			if side == 0 {
				x.id += int(n)
			} else {
				x.ood += int(n)
			}
		}
	}
	return out
}

// quantile of sorted values, interpolated linearly.
func quantile(sorted []float64, p float64) float64 {
	x := p * float64(len(sorted)-1)
	i := int(math.Floor(x))
	j := min(i+1, len(sorted)-1)
	return sorted[i] + (x-float64(i))*(sorted[j]-sorted[i])
}
