package sampler

import "context"

// Inlier is the sampler of Dream-ID (Du, Sun, Zhu and Li, NeurIPS 2023, arXiv
// 2309.13415): [KNN] turned inwards. It selects the points of a class with the
// smallest distance to their K-th neighbour and keeps the noisy copies with the
// smallest one. What is said there of exactness, modes and input is true here.
type Inlier struct{}

// Name implements [Method].
func (Inlier) Name() string { return "inlier" }

// Summary implements [Method].
func (Inlier) Summary() string {
	return "Inliers of high likelihood in the core of a class (Dream-ID, arXiv 2309.13415)."
}

// Defaults implements [Method]: ImageNet-100 in 768 dimensions. A class with
// fewer than 1,000 embeddings selects all it has; see [Inlier.Prepare].
func (Inlier) Defaults() Params {
	return Params{K: 300, Select: 1000, Pick: 100, Noises: 1500, Sigma: 0.01, Keep: 1, Mode: ModePaper}
}

// Prepare implements [Method]. A Select beyond the bank selects the whole bank,
// because inliers may start anywhere in it.
func (Inlier) Prepare(ctx context.Context, in Input, params Params) (Sampler, error) {
	if in.Bank.Rows > 0 {
		params.Select = min(params.Select, in.Bank.Rows)
	}
	return prepare(ctx, in, params, nearest)
}
