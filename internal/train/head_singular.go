package train

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// Singular is the term of FEVER-OOD (Isaac-Medina et al., ICCV 2025): Weight
// times 1/σ_min of the last layer's weights, or, with Condition, σ_max/σ_min.
type Singular struct {
	Weight    float64 // λ
	Condition bool
}

// ONNX has no singular values. The singular vectors of W are computed before a
// step and given to it; there σ = uᵀWv, which has the value of the singular
// value, and uvᵀ, its gradient, as gradient.
const (
	inSmallLeft  = "singular_left"        // [1, C] of σ_min
	inSmallRight = "singular_right"       // [1, F]
	inLargeLeft  = "singular_left_large"  // [1, C] of σ_max, with Condition
	inLargeRight = "singular_right_large" // [1, F]
)

func (s Singular) validate() error {
	if !(s.Weight > 0) || math.IsInf(s.Weight, 0) {
		return fmt.Errorf("singular-value term: weight %g; it is positive", s.Weight)
	}
	return nil
}

// inputs are the names and lengths of what a step is given, for a layer [c, f].
func (s Singular) inputs(c, f int) map[string]int {
	in := map[string]int{inSmallLeft: c, inSmallRight: f}
	if s.Condition {
		in[inLargeLeft], in[inLargeRight] = c, f
	}
	return in
}

func (s Singular) build(b *graph.Builder, h *heads) {
	c, f := h.weight.Shape()[0], h.weight.Shape()[1]
	value := func(left, right string) *graph.Tensor {
		return b.Linear(b.Linear(b.Input(right, 1, f), h.weight, nil), b.Input(left, 1, c), nil)
	}
	top := b.Const([]int{1, 1}, 1)
	if s.Condition {
		top = value(inLargeLeft, inLargeRight)
	}
	h.penalty, h.lambda = b.Ratio(top, value(inSmallLeft, inSmallRight)), s.Weight
}

// fill computes the singular vectors of w [c, f] into the inputs of a step.
func (s Singular) fill(w []float32, c, f int, in func(name string) []float32) error {
	wide := make([]float64, len(w))
	for i, v := range w {
		wide[i] = float64(v)
	}
	var d mat.SVD
	if !d.Factorize(mat.NewDense(c, f, wide), mat.SVDThin) {
		return errors.New("the singular values of the last layer did not converge")
	}
	var left, right mat.Dense
	d.UTo(&left)
	d.VTo(&right)
	column := func(name string, m *mat.Dense, j int) {
		for i, dst := 0, in(name); i < len(dst); i++ {
			dst[i] = float32(m.At(i, j))
		}
	}
	last := min(c, f) - 1 // values fall
	column(inSmallLeft, &left, last)
	column(inSmallRight, &right, last)
	if s.Condition {
		column(inLargeLeft, &left, 0)
		column(inLargeRight, &right, 0)
	}
	return nil
}
