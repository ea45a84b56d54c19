package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
)

// CrossBoundary is the sampler of boundary-based outlier generation, BOOD (Liao,
// Yang, Zhao, Luo and Zhao, ICML 2025, arXiv 2508.00350): embeddings are pushed
// over the decision boundary of the space's own classifier, cos(z, T(y))/0.1.
//
// From a unit vector z of class y, steps z ← z + α·sign(∇_z CE) are taken, without
// projection onto the sphere. κ is the number of steps until the prediction is
// another class than y, at most Steps; the Select rows with the least κ, ties to
// the smaller row, are pushed until it flips and Beyond steps further, where as
// in the published code only steps from a point of another class count as
// further, so that every sample is misclassified. Rows that the classifier gets
// wrong from the start have κ = 0 and come first, also as in that code. Rows that
// do not flip within Steps give no sample; that code would select them last and
// drop them. Its option to keep the less confident half is not here.
//
// Nothing is random. Sample i is that of the i-th selected row, so there are as
// many samples as selected rows, and a range beyond them is an error. K is only
// for the distances that are reported. The paper selects a share of the class;
// its code leaves the share to the caller.
type CrossBoundary struct{}

// Name implements [Method].
func (CrossBoundary) Name() string { return "boundary" }

// Summary implements [Method].
func (CrossBoundary) Summary() string {
	return "Embeddings near the decision boundary of the space, pushed just over it (BOOD, arXiv 2508.00350)."
}

// Defaults implements [Method]: steps and their length are those of the published
// code; Select is a tenth of a class of CIFAR-100.
func (CrossBoundary) Defaults() Params {
	return Params{K: 300, Select: 50, Mode: ModePaper, Alpha: 0.01, Steps: 40, Beyond: 1}
}

// maxSteps bounds Steps and Beyond.
const maxSteps = 1000

// Prepare implements [Method]. It needs Input.Anchors.
func (m CrossBoundary) Prepare(ctx context.Context, in Input, params Params) (Sampler, error) {
	if err := m.validate(in, params); err != nil {
		return nil, err
	}
	head, err := newCosineHead(in.Anchors)
	if err != nil {
		return nil, err
	}
	class, err := newClassBank(ctx, in.Bank, params)
	if err != nil {
		return nil, err
	}
	s := &crossing{classBank: class, head: head, class: in.Class, params: params}
	soon := make([]float64, class.unit.Rows) // −κ, or −∞
	matrix.Each(len(soon), 0, func(i int) {
		soon[i] = math.Inf(-1)
		if ctx.Err() != nil {
			return
		}
		if kappa, _, ok := s.cross(class.unit.Row(i)); ok {
			soon[i] = -float64(kappa)
		}
	})
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	selected := extreme(soon, params.Select)
	if at := slices.IndexFunc(selected, func(row int) bool { return math.IsInf(soon[row], -1) }); at >= 0 {
		selected = selected[:at]
	}
	if len(selected) == 0 {
		return nil, Problems{{"steps", fmt.Sprintf("is %d, and no embedding of the class crosses the boundary in so many steps of %v; raise steps or alpha", params.Steps, params.Alpha)}}
	}
	class.boundary.selectRows(selected)
	return s, nil
}

// validate reports every problem as [Problems].
func (CrossBoundary) validate(in Input, p Params) error {
	c := newChecks(in.Bank, p)
	c.that(p.Alpha > 0 && !math.IsInf(p.Alpha, 0), "alpha", "is %v; it must be positive and finite", p.Alpha)
	c.that(p.Steps >= 1 && p.Steps <= maxSteps, "steps", "is %d; it must be 1 to %d", p.Steps, maxSteps)
	c.that(p.Beyond >= 0 && p.Beyond <= maxSteps, "beyond", "is %d; it must be 0 to %d", p.Beyond, maxSteps)
	c.that(in.Noise.Rows == 0, "noise", "has %d rows, but this method draws none; leave it out", in.Noise.Rows)
	switch a := in.Anchors; {
	case a.Rows == 0:
		c.that(false, "anchors", "are missing; this method needs the token embeddings of all classes of the space [C, D]")
	case a.Rows < 2:
		c.that(false, "anchors", "are of %d class; a boundary needs at least 2", a.Rows)
	case a.Cols != in.Bank.Cols:
		c.that(false, "anchors", "have %d dimensions and the bank %d; take those of the same space", a.Cols, in.Bank.Cols)
	case in.Class < 0 || in.Class >= a.Rows:
		c.that(false, "class", "is %d; there are anchors of %d classes", in.Class, a.Rows)
	}
	return c.err()
}

// crossing pushes the selected rows of one class over its boundary.
type crossing struct {
	*classBank
	head   cosineHead
	class  int
	params Params
}

// cross pushes start [D] over the boundary: κ and the point beyond it [D]. It is
// false where that takes more than Steps steps to the flip or Steps+Beyond in all.
func (s *crossing) cross(start []float32) (kappa int, z []float64, ok bool) {
	z = make([]float64, len(start))
	for j, v := range start {
		z[j] = float64(v)
	}
	grad, cos := make([]float64, len(z)), make([]float64, len(s.head.anchors))
	wrong := 0 // points of another class so far
	for step := 0; ; step++ {
		if s.head.cosines(cos, z) != s.class {
			if wrong++; wrong == 1 {
				kappa = step
			}
			if wrong > s.params.Beyond {
				return kappa, z, true
			}
		}
		if step == s.params.Steps+s.params.Beyond { // too late, or too late a flip for as many steps beyond
			return 0, nil, false
		}
		s.head.gradient(grad, z, cos, s.class)
		for j, g := range grad {
			switch {
			case g > 0:
				z[j] += s.params.Alpha
			case g < 0:
				z[j] -= s.params.Alpha
			}
		}
	}
}

// crossingBlock is how many samples are computed at once.
const crossingBlock = 64

// Sample implements [Sampler]. All samples are of round 0.
func (s *crossing) Sample(ctx context.Context, r Range, yield func(Outlier) error) error {
	if err := s.check(r); err != nil {
		return err
	}
	selected := s.boundary.Selected
	if end := r.Offset + r.Count; end > len(selected) {
		return fmt.Errorf("samples [%d, %d) are asked for, but this method gives one for each selected embedding, and %d of the class cross the boundary (select is %d); ask for fewer, or raise select, steps or alpha", r.Offset, end, len(selected), s.params.Select)
	}
	for at, end := r.Offset, r.Offset+r.Count; at < end; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		samples := make([]Outlier, min(crossingBlock, end-at))
		matrix.Each(len(samples), 0, func(i int) {
			row := selected[at+i]
			_, z, _ := s.cross(s.unit.Row(row)) // it crossed in Prepare
			samples[i] = Outlier{Index: at + i, Source: row, Embedding: embedding(z)}
		})
		if err := s.emit(ctx, r, samples, yield); err != nil {
			return err
		}
		at += len(samples)
	}
	return nil
}
