package graph

import "slices"

// Columns puts the columns of y behind those of x: [N, A] and [N, B] to [N, A+B].
func (b *Builder) Columns(x, y *Tensor) *Tensor {
	if len(x.shape) != 2 || len(y.shape) != 2 || x.shape[0] != y.shape[0] {
		b.fail("columns %v beside %v: want as many rows", x.shape, y.shape)
		return x
	}
	n := x.shape[1]
	return b.differentiable(b.concat(1, x, y), func(d *Tensor) {
		for _, part := range []struct {
			of       *Tensor
			from, to int
		}{{x, 0, n}, {y, n, n + y.shape[1]}} {
			if part.of.grad {
				b.accumulate(part.of, b.op("Slice", part.of.shape, []*Tensor{d, b.ints(part.from), b.ints(part.to), b.ints(1)}))
			}
		}
	}, x, y)
}

// Times is x·factor for a factor [1] that has no gradient, such as an input.
func (b *Builder) Times(x, factor *Tensor) *Tensor {
	return b.differentiable(b.mul(x, factor), func(dy *Tensor) { b.accumulate(x, b.mul(dy, factor)) }, x)
}

// Ratio is x/y of two single numbers [1, 1], as a loss [1].
func (b *Builder) Ratio(x, y *Tensor) *Tensor {
	if one := []int{1, 1}; !slices.Equal(x.shape, one) || !slices.Equal(y.shape, one) {
		b.fail("ratio of %v and %v: want [1, 1]", x.shape, y.shape)
		return x
	}
	q := b.reshape(b.div(x, y), 1)
	return b.differentiable(q, func(d *Tensor) {
		dx := b.div(b.reshape(d, 1, 1), y)
		b.accumulate(x, dx)
		if y.grad {
			b.accumulate(y, b.neg(b.mul(dx, b.reshape(q, 1, 1))))
		}
	}, x, y)
}

// WeightedLogSumExp is log Σ_c max(w_c, 0)·exp(x_c) per row, for x [N, C] and w [1, C]: [N, 1]. The gradient of a weight
// that is not positive is 0.
func (b *Builder) WeightedLogSumExp(x, w *Tensor) *Tensor {
	positive := b.op("Relu", w.shape, []*Tensor{w})
	top := b.reduce("ReduceMax", x, true, 1)
	sum := b.reduce("ReduceSum", b.mul(b.op("Exp", x.shape, []*Tensor{b.sub(x, top)}), positive), true, 1)
	y := b.add(b.op("Log", sum.shape, []*Tensor{sum}), top)
	return b.differentiable(y, func(dy *Tensor) {
		share := b.mul(b.op("Exp", x.shape, []*Tensor{b.sub(x, y)}), dy)
		b.accumulate(x, b.mul(share, positive))
		if w.grad {
			b.accumulate(w, b.mul(b.reduce("ReduceSum", share, true, 0), b.mask("Greater", w, b.scalar(0))))
		}
	}, x, w)
}
