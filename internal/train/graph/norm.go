package graph

import "github.com/dreamood/dreamood/internal/onnx/onnxpb"

// Batch normalisation constants, PyTorch's defaults.
const (
	normEpsilon  = 1e-5
	normMomentum = 0.1
)

// BatchNorm normalises every channel of [N, C, H, W] and applies the learned
// scale and shift. Its values are prefix.weight, prefix.bias (no weight decay),
// prefix.running_mean and prefix.running_var, each [C].
//
// Training uses the statistics of the batch and moves the running ones by
// [normMomentum], the variance without bias (n−1), as PyTorch does. Inference
// uses the running ones. The training form is decomposed, because the fused
// operator has no gradient, is refused by some providers in training mode and
// overwrites its input statistics on others; means are taken in two stages,
// over the pixels and then over the batch.
func (b *Builder) BatchNorm(x *Tensor, prefix string) *Tensor {
	c := x.shape[1]
	zero, one := Init{}, Init{Scale: 1}
	weight, bias := b.Param(prefix+".weight", false, one, c), b.Param(prefix+".bias", false, zero, c)
	mean, variance := b.slot(prefix+".running_mean", zero, []int{c}), b.slot(prefix+".running_var", one, []int{c})
	if b.mode == Inference {
		return b.op("BatchNormalization", x.shape, []*Tensor{x, weight, bias, mean, variance},
			onnxpb.AttrFloat("epsilon", normEpsilon))
	}
	count := float64(x.shape[0] * x.shape[2] * x.shape[3])
	if count < 2 {
		b.fail("batch normalisation %s: a batch of one pixel has no variance", prefix)
	}
	mu := b.channelMean(x)
	centred := b.sub(x, b.perChannel(mu))
	sigma2 := b.channelMean(b.mul(centred, centred))
	b.track(mean, mu, 1)
	b.track(variance, sigma2, count/(count-1))

	inverse := b.op("Reciprocal", []int{c}, []*Tensor{b.sqrt(b.add(sigma2, b.scalar(normEpsilon)))})
	gain := b.mul(weight, inverse)
	y := b.add(b.mul(centred, b.perChannel(gain)), b.perChannel(bias))
	return b.differentiable(y, func(dy *Tensor) {
		// With x̂ = centred·inverse: dx = gain·(dy − mean(dy) − x̂·mean(dy·x̂)).
		m1 := b.channelMean(dy)
		m2 := b.mul(b.channelMean(b.mul(dy, centred)), inverse)
		b.accumulate(weight, b.mul(m2, b.scalar(count)))
		b.accumulate(bias, b.mul(m1, b.scalar(count)))
		if !x.grad {
			return
		}
		slope := b.neg(b.mul(b.mul(gain, m2), inverse))
		offset := b.neg(b.mul(gain, m1))
		dx := b.add(b.mul(dy, b.perChannel(gain)), b.mul(centred, b.perChannel(slope)))
		b.accumulate(x, b.add(dx, b.perChannel(offset)))
	}, x, weight, bias)
}

// channelMean is the mean of [N, C, H, W] over everything but the channel: [C].
func (b *Builder) channelMean(x *Tensor) *Tensor {
	s := x.shape
	flat := b.reshape(x, s[0], s[1], s[2]*s[3])
	return b.reduce("ReduceMean", b.reduce("ReduceMean", flat, false, 2), false, 0)
}

// perChannel gives [C] the shape [1, C, 1, 1].
func (b *Builder) perChannel(x *Tensor) *Tensor { return b.reshape(x, 1, x.shape[0], 1, 1) }

// track writes the next value of a running statistic.
func (b *Builder) track(running, batch *Tensor, correction float64) {
	next := b.add(b.mul(running, b.scalar(1-normMomentum)), b.mul(batch, b.scalar(normMomentum*correction)))
	b.advance(running, next)
}
