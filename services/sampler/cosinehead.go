package sampler

import (
	"fmt"
	"math"

	"github.com/dreamood/dreamood/internal/matrix"
)

// temperature divides the cosines of the space's classifier, see docs/method.md,
// stage 1.
const temperature = 0.1

// cosineHead is the classifier of the space: logits_c(z) = cos(z, T(c))/τ.
type cosineHead struct {
	anchors [][]float64 // û_c [C, D], unit norm
}

// newCosineHead takes anchors [C, D] of any norms but zero.
func newCosineHead(anchors matrix.Matrix) (cosineHead, error) {
	if err := anchors.Check(); err != nil {
		return cosineHead{}, fmt.Errorf("anchors: %w", err)
	}
	h := cosineHead{anchors: make([][]float64, anchors.Rows)}
	for c := range h.anchors {
		norm := matrix.Norm(anchors.Row(c))
		if norm == 0 {
			return cosineHead{}, fmt.Errorf("anchors: row %d is zero and has no direction", c)
		}
		h.anchors[c] = make([]float64, anchors.Cols)
		for j, v := range anchors.Row(c) {
			h.anchors[c][j] = float64(v) / norm
		}
	}
	return h, nil
}

// cosines sets cos to û_c·z/‖z‖ [C] and returns the class of the largest, ties
// to the smaller number.
func (h cosineHead) cosines(cos, z []float64) (class int) {
	norm := math.Sqrt(dot64(z, z))
	for c, u := range h.anchors {
		cos[c] = dot64(u, z) / norm
		if cos[c] > cos[class] {
			class = c
		}
	}
	return class
}

// gradient sets grad [D] to the gradient of the cross-entropy of class y at z,
// given the cosines there.
//
// With n = ‖z‖, ẑ = z/n, s_c = û_c·ẑ, logits s_c/τ and p their softmax,
//
//	∂s_c/∂z = (û_c − s_c ẑ)/n
//	∂CE/∂s_c = q_c/τ,  q_c = p_c − [c = y]
//	∂CE/∂z = (Σ_c q_c û_c − (Σ_c q_c s_c) ẑ) / (τ n).
func (h cosineHead) gradient(grad, z, cos []float64, y int) {
	largest, total := math.Inf(-1), 0.0
	for _, s := range cos {
		largest = max(largest, s)
	}
	p := make([]float64, len(cos))
	for c, s := range cos {
		p[c] = math.Exp((s - largest) / temperature)
		total += p[c]
	}
	clear(grad)
	var radial float64
	for c, u := range h.anchors {
		q := p[c] / total
		if c == y {
			q--
		}
		radial += float64(q * cos[c])
		for j, v := range u {
			grad[j] += float64(q * v)
		}
	}
	n := math.Sqrt(dot64(z, z))
	for j, v := range z {
		grad[j] = (grad[j] - float64(radial*v)/n) / (temperature * n)
	}
}
