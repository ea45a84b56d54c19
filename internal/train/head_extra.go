package train

import "github.com/dreamood/dreamood/internal/train/graph"

// ExtraClass is a (C+1)-th class of outliers (the variant that Dream-OOD is
// compared with): cross-entropy over C+1 logits, L_CE in the mean over the
// in-distribution rows, L_ood in the mean over the outlier rows. The exported
// `logits` are those of the C classes; `ood_score` is their logsumexp minus the
// outliers' logit, the logit of in-distribution.
type ExtraClass struct {
	Beta float64
}

func (e ExtraClass) validate(outliers int) error {
	return checkOutliers("extra class", e.Beta, outliers)
}

func (e ExtraClass) build(b *graph.Builder, h *heads, id, outliers int) {
	extra := linear(b, h.features, "extra", 1)
	if b.Mode() == graph.Inference {
		h.score = b.Add(h.energy, b.Scale(extra, -1))
		return
	}
	h.trained = b.Columns(h.logits, extra)
	n := h.trained.Shape()[1]
	last := make([]float32, outliers*n)
	for i := range outliers {
		last[(i+1)*n-1] = 1
	}
	h.outlier = b.CrossEntropy(b.Rows(h.trained, id, id+outliers), b.Const([]int{outliers, n}, last...), nil)
	h.beta = e.Beta
}
