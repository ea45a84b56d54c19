package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
)

// Quantiles describe a distribution; between samples they are interpolated
// linearly. All are zero where there are no samples.
type Quantiles struct {
	Min, P05, P25, Median, P75, P95, Max float64
}

// Report says what sampling did in one class. K-th distances are squared L2
// between unit vectors.
type Report struct {
	Size               int       // embeddings in the bank of the class
	Selected           int       // boundary points
	Sampled            int       // samples described
	Sources            int       // different boundary points that they come from
	ID                 Quantiles // K-th distances in the bank
	Boundary           Quantiles // of the selected points
	Picked             Quantiles // of the samples
	BeyondID           float64   // share of samples with a K-th distance larger than any in the bank
	MeanCosineToSource float64
	MeanCosineToAnchor float64 // 0 without an anchor
}

// Describe reports on samples of one class.
func Describe(b Boundary, samples []Outlier) Report {
	r := Report{Size: b.Size, Selected: len(b.Selected), Sampled: len(samples), ID: quantiles(b.KthDistances)}
	selected := make([]float32, len(b.Selected))
	for i, row := range b.Selected {
		selected[i] = b.KthDistances[row]
	}
	r.Boundary = quantiles(selected)
	picked := make([]float32, len(samples))
	sources := map[int]bool{}
	n := float64(max(1, len(samples)))
	for i, s := range samples {
		picked[i] = s.KthDistance
		sources[s.Source] = true
		if float64(s.KthDistance) > r.ID.Max {
			r.BeyondID += 1 / n
		}
		r.MeanCosineToSource += float64(s.CosineToSource) / n
		r.MeanCosineToAnchor += float64(s.CosineToAnchor) / n
	}
	r.Picked, r.Sources = quantiles(picked), len(sources)
	return r
}

// ForeignShare is the share of samples of class own whose nearest ID embedding,
// over the banks [N, D] of all classes, belongs to another class. Ties go to
// the class of the smaller number.
func ForeignShare(ctx context.Context, banks []matrix.Matrix, own int, samples []Outlier) (float64, error) {
	if own < 0 || own >= len(banks) {
		return 0, fmt.Errorf("class %d of %d banks", own, len(banks))
	}
	if len(samples) == 0 {
		return 0, nil
	}
	queries := matrix.New(len(samples), len(samples[0].Embedding))
	for i, s := range samples {
		copy(queries.Row(i), s.Embedding)
	}
	best := make([]float32, len(samples))
	for i := range best {
		best[i] = float32(math.Inf(1))
	}
	closest := make([]int, len(samples))
	for class, bank := range banks {
		if bank.Rows == 0 {
			continue
		}
		unit, err := bank.Normalised()
		if err != nil {
			return 0, fmt.Errorf("bank of class %d: %w", class, err)
		}
		nearest, err := knn.KthDistances(ctx, unit, queries, 1)
		if err != nil {
			return 0, fmt.Errorf("bank of class %d: %w", class, err)
		}
		for i, d := range nearest {
			if d < best[i] {
				best[i], closest[i] = d, class
			}
		}
	}
	foreign := 0
	for _, class := range closest {
		if class != own {
			foreign++
		}
	}
	return float64(foreign) / float64(len(samples)), nil
}

func quantiles(values []float32) Quantiles {
	if len(values) == 0 {
		return Quantiles{}
	}
	s := slices.Sorted(slices.Values(values))
	at := func(p float64) float64 {
		x := p * float64(len(s)-1)
		i := int(x)
		j := min(i+1, len(s)-1)
		return float64(s[i]) + (x-float64(i))*(float64(s[j])-float64(s[i]))
	}
	return Quantiles{Min: at(0), P05: at(.05), P25: at(.25), Median: at(.5), P75: at(.75), P95: at(.95), Max: at(1)}
}
