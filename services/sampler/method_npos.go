package sampler

import (
	"context"
	"fmt"
)

// NPOS is the sampler of non-parametric outlier synthesis (Tao, Du, Zhu and Li,
// ICLR 2023, arXiv 2303.02966), which [KNN] descends from: the same boundary and
// the same choice of candidates with constants of its own.
//
// Its published code adds the noise to features of any norm, while here, as in
// all methods, it is added to unit vectors. So its sigma is not comparable with
// the one in the paper; in 768 dimensions it gives a cosine of 0.339 to the
// source. The code views the candidates' distances in the wrong layout, as that
// of Dream-OOD does; here the picks are what the paper describes.
type NPOS struct{}

// Name implements [Method].
func (NPOS) Name() string { return "npos" }

// Summary implements [Method].
func (NPOS) Summary() string {
	return "Outliers of low likelihood at the k-nearest-neighbour boundary with few starts and wide noise (NPOS, arXiv 2303.02966)."
}

// Defaults implements [Method]: those of the published code for CIFAR-10 and
// CIFAR-100 (training_from_scratch/train_CIFAR100.py). Its scripts keep 200 of
// the 600 candidates of a point instead of 2; ImageNet-100 takes K 400, Select
// 300 and 1,000 noises.
func (NPOS) Defaults() Params {
	return Params{K: 300, Select: 200, Pick: 2, Noises: 600, Sigma: 0.1, Keep: 2, Mode: ModePaper}
}

// Prepare implements [Method].
func (NPOS) Prepare(ctx context.Context, in Input, params Params) (Sampler, error) {
	if params.Mode == ModeReference {
		return nil, Problems{{"mode", fmt.Sprintf("is %q; this method has %q", params.Mode, ModePaper)}}
	}
	return prepare(ctx, in, params, farthest)
}
