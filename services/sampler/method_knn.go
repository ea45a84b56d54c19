package sampler

import "context"

// KNN is the sampler of Dream-OOD (Du, Sun, Zhu and Li, NeurIPS
// 2023, arXiv 2309.13415): the points of a class with the largest distance to their K-th neighbour
// are its boundary, and of the noisy copies of a boundary point those with the
// largest distance to their K-th neighbour are its outliers.
type KNN struct{}

// Name implements [Method].
func (KNN) Name() string { return "knn" }

// Summary implements [Method].
func (KNN) Summary() string {
	return "Outliers of low likelihood at the k-nearest-neighbour boundary of a class (Dream-OOD, arXiv 2309.13415)."
}

// Defaults implements [Method]: CIFAR-100 in 768 dimensions. ImageNet-100 takes
// Select 200 and Sigma 0.03.
func (KNN) Defaults() Params {
	return Params{K: 300, Select: 50, Pick: 50, Noises: 1500, Sigma: 0.07, Keep: 2, Mode: ModePaper}
}

// Prepare implements [Method].
func (KNN) Prepare(ctx context.Context, in Input, params Params) (Sampler, error) {
	return prepare(ctx, in, params, farthest)
}
