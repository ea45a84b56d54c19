package graph

import "github.com/dreamood/dreamood/internal/onnx/onnxpb"

// CrossEntropy is the mean over rows of −Σ_c target·log softmax(logits), shape
// [1], for logits and (soft) targets [N, C]. With row weights [N] (or nil) it is
// the weighted mean Σ w·loss / Σ w; if all weights are zero it is zero.
func (b *Builder) CrossEntropy(logits, targets, weights *Tensor) *Tensor {
	n := logits.shape[0]
	logp := b.op("LogSoftmax", logits.shape, []*Tensor{logits}, onnxpb.AttrInt("axis", 1))
	rows := b.neg(b.reduce("ReduceSum", b.mul(logp, targets), false, 1))
	var share *Tensor // what a row counts: [N, 1] or [1]
	var loss *Tensor
	if weights == nil {
		share = b.scalar(1 / float64(n))
		loss = b.reduce("ReduceMean", rows, true, 0)
	} else {
		total := b.reduce("ReduceSum", weights, true, 0)
		total = b.op("Max", total.shape, []*Tensor{total, b.scalar(1e-12)})
		part := b.div(weights, total)
		share = b.reshape(part, n, 1)
		loss = b.reduce("ReduceSum", b.mul(rows, part), true, 0)
	}
	return b.differentiable(loss, func(d *Tensor) {
		p := b.op("Exp", logits.shape, []*Tensor{logp})
		mass := b.reduce("ReduceSum", targets, true, 1)
		b.accumulate(logits, b.mul(b.mul(b.sub(b.mul(p, mass), targets), share), d))
	}, logits)
}

// LogSumExp is log Σ_c exp(x) per row: [N, C] to [N, 1].
func (b *Builder) LogSumExp(x *Tensor) *Tensor {
	y := b.reduce("ReduceLogSumExp", x, true, 1)
	return b.differentiable(y, func(dy *Tensor) {
		p := b.op("Softmax", x.shape, []*Tensor{x}, onnxpb.AttrInt("axis", 1))
		b.accumulate(x, b.mul(p, dy))
	}, x)
}

// WeightedSum is x + weight·y for two losses of shape [1].
func (b *Builder) WeightedSum(x, y *Tensor, weight float64) *Tensor {
	return b.Add(x, b.Scale(y, weight))
}
