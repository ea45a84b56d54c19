package graph

import (
	"slices"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// Relu is max(x, 0). The gradient at 0 is 0.
func (b *Builder) Relu(x *Tensor) *Tensor {
	y := b.op("Relu", x.shape, []*Tensor{x})
	return b.differentiable(y, func(dy *Tensor) {
		b.accumulate(x, b.mul(dy, b.mask("Greater", y, b.scalar(0))))
	}, x)
}

// Add is x + y for two tensors of the same shape: a residual connection.
func (b *Builder) Add(x, y *Tensor) *Tensor {
	if !slices.Equal(x.shape, y.shape) {
		b.fail("add %v and %v: the shapes differ", x.shape, y.shape)
	}
	return b.differentiable(b.add(x, y), func(d *Tensor) {
		b.accumulate(x, d)
		b.accumulate(y, d)
	}, x, y)
}

// Scale is x·factor.
func (b *Builder) Scale(x *Tensor, factor float64) *Tensor {
	if factor == 1 {
		return x
	}
	f := b.scalar(factor)
	return b.differentiable(b.mul(x, f), func(dy *Tensor) { b.accumulate(x, b.mul(dy, f)) }, x)
}

// Standardize is (x − mean)/std per channel of the pictures [N, C, H, W].
func (b *Builder) Standardize(x *Tensor, mean, std []float32) *Tensor {
	c := []int{1, len(mean), 1, 1}
	s := b.Const(c, std...)
	return b.differentiable(b.div(b.sub(x, b.Const(c, mean...)), s), func(dy *Tensor) {
		b.accumulate(x, b.div(dy, s))
	}, x)
}

// Linear is x·wᵀ + bias for x [N, I], w [O, I] and bias [O] or nil.
func (b *Builder) Linear(x, w, bias *Tensor) *Tensor {
	if len(x.shape) != 2 || len(w.shape) != 2 || x.shape[1] != w.shape[1] {
		b.fail("linear layer %s: input %v and weight %v do not fit", w.name, x.shape, w.shape)
		return x
	}
	in, deps := []*Tensor{x, w}, []*Tensor{x, w}
	if bias != nil {
		in, deps = append(in, bias), append(deps, bias)
	}
	y := b.op("Gemm", []int{x.shape[0], w.shape[0]}, in, onnxpb.AttrInt("transB", 1))
	return b.differentiable(y, func(dy *Tensor) {
		if w.grad {
			b.accumulate(w, b.op("Gemm", w.shape, []*Tensor{dy, x}, onnxpb.AttrInt("transA", 1)))
		}
		if bias != nil && bias.grad {
			b.accumulate(bias, b.reduce("ReduceSum", dy, false, 0))
		}
		if x.grad {
			b.accumulate(x, b.op("Gemm", x.shape, []*Tensor{dy, w}))
		}
	}, deps...)
}

// Normalize divides every row of [N, D] by its Euclidean length (at least 1e-12).
func (b *Builder) Normalize(x *Tensor) *Tensor {
	length := b.sqrt(b.reduce("ReduceSum", b.mul(x, x), true, 1))
	length = b.op("Max", length.shape, []*Tensor{length, b.scalar(1e-12)})
	y := b.div(x, length)
	return b.differentiable(y, func(dy *Tensor) {
		along := b.reduce("ReduceSum", b.mul(dy, y), true, 1)
		b.accumulate(x, b.div(b.sub(dy, b.mul(y, along)), length))
	}, x)
}

// Flatten gives [N, 1] the shape [N]. It has no gradient.
func (b *Builder) Flatten(x *Tensor) *Tensor { return b.reshape(x, x.shape[0]) }

// Rows is x[from:to] along the batch.
func (b *Builder) Rows(x *Tensor, from, to int) *Tensor {
	n := x.shape[0]
	if from < 0 || from >= to || to > n {
		b.fail("rows [%d, %d) of a batch of %d", from, to, n)
		return x
	}
	if from == 0 && to == n {
		return x
	}
	shape := slices.Clone(x.shape)
	shape[0] = to - from
	y := b.op("Slice", shape, []*Tensor{x, b.ints(from), b.ints(to), b.ints(0)})
	return b.differentiable(y, func(dy *Tensor) {
		var parts []*Tensor
		zeros := func(rows int) {
			if rows > 0 {
				s := slices.Concat([]int{rows}, x.shape[1:])
				parts = append(parts, b.Const(s, make([]float32, size(s))...))
			}
		}
		zeros(from)
		parts = append(parts, dy)
		zeros(n - to)
		b.accumulate(x, b.concat(0, parts...))
	}, x)
}
