package train

import (
	"errors"
	"fmt"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// Energy is the outlier regularisation of Dream-OOD (Du et al. 2023, eq. 7):
// L_ood = cross-entropy(φ(E), is in-distribution) over the in-distribution and
// outlier rows of one batch, E = logsumexp(logits).
type Energy struct {
	Beta float64
	// Hidden units of φ = Linear(1, Hidden)-ReLU-Linear(Hidden, 2); 0 is φ = Linear(1, 2).
	Hidden int
}

func (e Energy) validate(outliers int) error {
	var err error
	if e.Hidden < 0 {
		err = fmt.Errorf("energy loss: %d hidden units; want 0 or more", e.Hidden)
	}
	return errors.Join(err, checkOutliers("energy", e.Beta, outliers))
}

func (e Energy) build(b *graph.Builder, h *heads, id, outliers int) {
	energy := h.energy
	if energy == nil {
		energy = b.LogSumExp(h.logits)
	}
	phi := energy
	if e.Hidden == 0 {
		phi = linear(b, phi, "phi", 2)
	} else {
		phi = linear(b, b.Relu(linear(b, phi, "phi.0", e.Hidden)), "phi.2", 2)
	}
	if b.Mode() == graph.Inference {
		h.score = apart(b, phi)
		return
	}
	h.outlier, h.beta = b.CrossEntropy(phi, isID(b, id, outliers), nil), e.Beta
}

// apart is the logit of in-distribution minus that of outlier of φ [N, 2]: [N, 1].
func apart(b *graph.Builder, phi *graph.Tensor) *graph.Tensor {
	return b.Linear(phi, b.Const([]int{1, 2}, -1, 1), nil)
}

// isID is the constant target [B, 2] of φ: column 1 for the in-distribution
// rows, column 0 for the outliers after them.
func isID(b *graph.Builder, id, outliers int) *graph.Tensor {
	data := make([]float32, 0, 2*(id+outliers))
	for i := range id + outliers {
		if i < id {
			data = append(data, 0, 1)
		} else {
			data = append(data, 1, 0)
		}
	}
	return b.Const([]int{id + outliers, 2}, data...)
}
