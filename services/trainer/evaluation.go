package trainer

import (
	"slices"

	"github.com/dreamood/dreamood/internal/evaluation"
)

// keep adds to a new measurement what an older one has of other sets, where both saw the same ID pictures and gave them
// the same scores: every figure compares with these.
func keep(m, old *evaluation.Measured) {
	score := m.Detector.Score
	if old == nil || old.Detector.Score != score || old.Detector.Model != m.Detector.Model ||
		!slices.Equal(old.ID.Files, m.ID.Files) || !slices.Equal(old.ID.Scores[score], m.ID.Scores[score]) {
		return
	}
	missing := func(sets, from []evaluation.Set) []evaluation.Set {
		for _, s := range from {
			if !slices.ContainsFunc(sets, func(have evaluation.Set) bool { return have.Name == s.Name }) {
				sets = append(sets, s)
			}
		}
		return sets
	}
	m.OOD, m.Shifted = missing(m.OOD, old.OOD), missing(m.Shifted, old.Shifted)
}

// thin keeps at most n values, evenly spread over the sorted ones.
func thin(values []float32, n int) []float32 {
	s := slices.Sorted(slices.Values(values))
	if len(s) <= n {
		n = len(s)
	}
	out := make([]float32, n)
	for i := range out {
		at := i
		if n > 1 {
			at = i * (len(s) - 1) / (n - 1)
		}
		out[i] = s[at]
	}
	return out
}
