package sampler

import "context"

// KNN is the sampler of Dream-OOD (Du, Sun, Zhu and Li, NeurIPS 2023, arXiv
// 2309.13415, section 3.2): the points of a class with the largest distance to
// their K-th neighbour are its boundary, and of the noisy copies of a boundary
// point those with the largest distance to their K-th neighbour are its outliers.
//
// What is selected and kept is exact, and the same on every CPU: distances are
// compared in float64 (exact.go), equal ones go to the smaller row or noise. In
// [ModeReference] it repeats the published code index for index (reference.go).
// In either mode Input.Noise replaces the drawn noise; the boundary points of a
// round are drawn in any case.
//
// A bank whose rows all have a norm within 1e-6 of 1 is used as it is and not
// copied, which a memory-mapped file is then read through: it and Input.Noise must
// stay as they are while the sampler is in use.
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

// Prepare implements [Method]. It takes N² products of D terms for the boundary of
// N points.
func (KNN) Prepare(ctx context.Context, in Input, params Params) (Sampler, error) {
	return prepare(ctx, in, params, farthest)
}
