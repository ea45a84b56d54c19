package score

import (
	"slices"
	"sort"

	"github.com/dreamood/dreamood/internal/philox"
)

// Sample is one score's values on ID and OOD test pictures, in order, so that the metrics of a resample cost one pass.
type Sample struct {
	t       table
	id, ood []int32 // the tie that each picture belongs to
}

// NewSample orders scores. An empty side, or a score that is not finite, is an error.
func NewSample(id, ood []float64) (Sample, error) {
	t, err := newTable(id, ood)
	if err != nil {
		return Sample{}, err
	}
	place := func(scores []float64) []int32 {
		out := make([]int32, len(scores))
		for i, s := range scores {
			out[i] = int32(sort.Search(len(t), func(k int) bool { return t[k].score <= s }))
		}
		return out
	}
	return Sample{t, place(id), place(ood)}, nil
}

// Metrics are those of the pictures as they are.
func (s Sample) Metrics() Metrics { return s.t.metrics() }

// Resampled are the metrics when ID picture i counts id[i] times and OOD picture i ood[i] times, from Draws.
func (s Sample) Resampled(id, ood []int32) Metrics {
	t := slices.Clone(s.t)
	for k := range t {
		t[k].id, t[k].ood = 0, 0
	}
	for i, k := range s.id {
		t[k].id += int(id[i])
	}
	for i, k := range s.ood {
		t[k].ood += int(ood[i])
	}
	return t.metrics()
}

// Draws says how often each of n pictures comes up in n draws with replacement. Detectors that are compared on the same
// pictures share draws, so that what is common to both cancels.
func Draws(n int, key philox.Key) []int32 {
	words := make([]uint32, n)
	philox.Uint32s(words, key)
	out := make([]int32, n)
	for _, w := range words {
		out[uint64(w)*uint64(n)>>32]++
	}
	return out
}

// Middle is the interval that holds the given level of values, such as 0.95, with equal tails; it sorts them.
func Middle(values []float64, level float64) Interval {
	slices.Sort(values)
	tail := (1 - level) / 2
	return Interval{quantile(values, tail), quantile(values, 1-tail)}
}
