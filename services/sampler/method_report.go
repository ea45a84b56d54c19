package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
)

// MaxCompared is the number of samples at most whose nearest ID embedding over
// all classes is looked for; a share of so many is known to 3 points (95 %).
const MaxCompared = 1024

// Quantiles describe a distribution; between samples they are interpolated
// linearly. All are zero where there are no samples.
type Quantiles struct {
	Min, P05, P25, Median, P75, P95, Max float64
}

// Report says what sampling did in one class. K-th distances are squared L2
// between unit vectors.
type Report struct {
	Size               int       // embeddings in the bank of the class
	Dim                int       // their width
	Selected           int       // boundary points
	Sampled            int       // samples described
	Sources            int       // different boundary points that they come from; 0 for a method that adds nothing to points
	ID                 Quantiles // K-th distances in the bank
	Boundary           Quantiles // of the selected points
	Picked             Quantiles // of the samples
	BeyondID           float64   // share of samples with a K-th distance larger than any in the bank
	MeanCosineToSource float64
	MeanCosineToAnchor float64 // 0 without an anchor
	NoiseLevel         float64 // K-th distance of random directions, see [NoiseLevel]; 0 when it is not known
	Foreign            float64 // share of the samples compared whose nearest ID embedding is of another class
	Compared           int     // samples compared with the ID embeddings of all classes; 0 when there was no comparison
}

// Describe reports on samples of one class.
func Describe(b Boundary, samples []Outlier) Report {
	t := NewTally(b, len(samples), 1)
	for _, s := range samples {
		t.Add(s)
	}
	return t.Report()
}

// Tally collects what a report needs while samples pass by. It keeps four bytes
// for each sample and the embeddings of some, evenly spaced.
type Tally struct {
	boundary       Boundary
	distances      []float32
	sources        map[int]bool
	source, anchor float64 // sums of cosines
	every          int     // of so many samples one is kept
	kept           []float32
}

// NewTally begins a report on samples from a boundary. Of the expected number
// of samples the embeddings of at most keep, 1 or more, are kept.
func NewTally(b Boundary, expected, keep int) *Tally {
	return &Tally{boundary: b, sources: map[int]bool{}, every: max(0, expected-1)/keep + 1}
}

// Add takes one sample in. It does not keep its embedding.
func (t *Tally) Add(o Outlier) {
	if len(t.distances)%t.every == 0 {
		t.kept = append(t.kept, o.Embedding...)
	}
	t.distances = append(t.distances, o.KthDistance)
	if o.Source >= 0 {
		t.sources[o.Source] = true
	}
	t.source += float64(o.CosineToSource)
	t.anchor += float64(o.CosineToAnchor)
}

// Kept are the embeddings of the samples kept [N, D].
func (t *Tally) Kept() matrix.Matrix {
	if len(t.kept) == 0 {
		return matrix.Matrix{}
	}
	return matrix.Matrix{Rows: len(t.kept) / t.boundary.Dim, Cols: t.boundary.Dim, Data: t.kept}
}

// Report describes the samples so far.
func (t *Tally) Report() Report {
	b := t.boundary
	r := Report{
		Size: b.Size, Dim: b.Dim, Selected: len(b.Selected), Sampled: len(t.distances), Sources: len(t.sources),
		ID: quantiles(b.KthDistances), Boundary: quantiles(b.SelectedDistances), Picked: quantiles(t.distances),
	}
	r.ID.Max = max(r.ID.Max, r.Boundary.Max) // of a large bank the former are a sample
	beyond := 0
	for _, d := range t.distances {
		if float64(d) > r.ID.Max {
			beyond++
		}
	}
	n := float64(max(1, r.Sampled))
	r.BeyondID, r.MeanCosineToSource, r.MeanCosineToAnchor = float64(beyond)/n, t.source/n, t.anchor/n
	return r
}

// Nearest finds for some embeddings the class of their nearest ID embedding,
// bank after bank, so that no two banks need be held at once.
type Nearest struct {
	queries matrix.Matrix
	best    []float32
	class   []int
}

// NewNearest begins with queries [N, D] of unit norm.
func NewNearest(queries matrix.Matrix) *Nearest {
	n := &Nearest{queries: queries, best: make([]float32, queries.Rows), class: make([]int, queries.Rows)}
	for i := range n.best {
		n.best[i], n.class[i] = float32(math.Inf(1)), -1
	}
	return n
}

// Add compares with the ID embeddings [M, D], of any norms, of one more class.
// Ties stay with the class that came first.
func (n *Nearest) Add(ctx context.Context, class int, bank matrix.Matrix) error {
	if bank.Rows == 0 || n.queries.Rows == 0 {
		return nil
	}
	unit, err := bank.Normalised()
	if err != nil {
		return fmt.Errorf("bank of class %d: %w", class, err)
	}
	distances, err := knn.KthDistances(ctx, unit, n.queries, 1)
	if err != nil {
		return fmt.Errorf("bank of class %d: %w", class, err)
	}
	for i, d := range distances {
		if d < n.best[i] {
			n.best[i], n.class[i] = d, class
		}
	}
	return nil
}

// Foreign is the share of the queries [from, to) whose nearest embedding is not
// of class own; 0 where there are none.
func (n *Nearest) Foreign(own, from, to int) float64 {
	foreign := 0
	for _, class := range n.class[from:to] {
		if class != own {
			foreign++
		}
	}
	return float64(foreign) / float64(max(1, to-from))
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
	n := NewNearest(queries)
	for class, bank := range banks {
		if err := n.Add(ctx, class, bank); err != nil {
			return 0, err
		}
	}
	return n.Foreign(own, 0, len(samples)), nil
}

// NoiseLevel is the median distance of random directions to their K-th nearest
// row of bank [N, D], of any norms: samples that far out have lost their class.
// Of a bank with more than 2,048 rows so many are looked at, evenly spaced, with
// the same share of neighbours.
func NoiseLevel(ctx context.Context, bank matrix.Matrix, k int) (float64, error) {
	const rows, directions = 2048, 64
	if bank.Rows > rows {
		part := matrix.New(rows, bank.Cols)
		for i := range rows {
			copy(part.Row(i), bank.Row(i*bank.Rows/rows))
		}
		bank, k = part, max(1, k*rows/bank.Rows)
	}
	bank, err := bank.Normalised()
	if err != nil {
		return 0, fmt.Errorf("bank: %w", err)
	}
	random := matrix.New(directions, bank.Cols)
	philox.Normals(random.Data, philox.Key{Purpose: "sampler.noise-level"})
	unit, err := random.Normalised()
	if err != nil {
		return 0, err
	}
	distances, err := knn.KthDistances(ctx, bank, unit, k)
	return quantiles(distances).Median, err
}

func quantiles(values []float32) Quantiles {
	if len(values) == 0 {
		return Quantiles{}
	}
	s := slices.Sorted(slices.Values(values))
	at := func(p float64) float64 { return quantile(s, p) }
	return Quantiles{Min: at(0), P05: at(.05), P25: at(.25), Median: at(.5), P75: at(.75), P95: at(.95), Max: at(1)}
}

// quantile is the p-quantile of sorted values, at least one, with linear
// interpolation between them.
func quantile(sorted []float32, p float64) float64 {
	x := p * float64(len(sorted)-1)
	i := int(x)
	j := min(i+1, len(sorted)-1)
	return float64(sorted[i]) + (x-float64(i))*(float64(sorted[j])-float64(sorted[i]))
}
