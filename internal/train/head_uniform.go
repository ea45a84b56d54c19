package train

import "github.com/dreamood/dreamood/internal/train/graph"

// Uniform is outlier exposure (Hendrycks, Mazeika and Dietterich 2019): L_ood is
// the cross-entropy of the outliers' softmax to the uniform distribution,
// −1/C Σ_c log p_c, in the mean over the outlier rows.
type Uniform struct {
	Beta float64 // λ of the paper, 0.5 there
}

func (u Uniform) validate(outliers int) error { return checkOutliers("uniform", u.Beta, outliers) }

func (u Uniform) build(b *graph.Builder, h *heads, id, outliers int) {
	if b.Mode() == graph.Inference {
		return
	}
	c := h.logits.Shape()[1]
	flat := make([]float32, outliers*c)
	for i := range flat {
		flat[i] = 1 / float32(c)
	}
	h.outlier = b.CrossEntropy(b.Rows(h.logits, id, id+outliers), b.Const([]int{outliers, c}, flat...), nil)
	h.beta = u.Beta
}
