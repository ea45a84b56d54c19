package graph

import (
	"math"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// MaxPool is 2 by 2 max pooling with stride 2; height and width are even.
//
// The gradient goes to the first maximum of a window in row order, as in
// PyTorch. Three more pools find it without indices: the windows' first pixel,
// their first row and their first column. Where the first row holds the
// maximum, it is in column 0 if the first pixel holds it; else it is in row 1,
// in column 0 if the first column holds it.
func (b *Builder) MaxPool(x *Tensor) *Tensor {
	n, c, h, w := x.shape[0], x.shape[1], x.shape[2], x.shape[3]
	if h%2 != 0 || w%2 != 0 {
		b.fail("2 by 2 pooling of %d by %d: both must be even", h, w)
	}
	small := []int{n, c, h / 2, w / 2}
	y := b.window(x, small, 2, 2)
	return b.differentiable(y, func(dy *Tensor) {
		one := b.scalar(1)
		first := b.mask("Equal", b.window(x, small, 1, 1), y)
		row := b.mask("Equal", b.window(x, small, 1, 2), y)
		column := b.mask("Equal", b.window(x, small, 2, 1), y)
		// Position 0, 1, 2, 3 of the maximum: 2·(1−row) + (1 − (row ? first : column)).
		lower := b.sub(one, row)
		lower.shape = small
		hit := b.add(b.mul(row, first), b.mul(lower, column))
		position := b.sub(b.add(b.add(lower, lower), one), hit)
		here := b.mask("Equal", b.upsample(position), b.pattern(h, w, [4]float32{0, 1, 2, 3}))
		b.accumulate(x, b.mul(b.upsample(dy), here))
	}, x)
}

// window is max pooling of a kh by kw window with stride 2 in both directions.
func (b *Builder) window(x *Tensor, shape []int, kh, kw int) *Tensor {
	return b.op("MaxPool", shape, []*Tensor{x}, onnxpb.AttrInts("kernel_shape", int64(kh), int64(kw)), onnxpb.AttrInts("strides", 2, 2))
}

// MaxPool3 is 3 by 3 max pooling with stride 2 and padding 1, that of the
// ImageNet stem; height and width are even. The gradient goes to the first
// maximum of a window in row order, as in PyTorch.
func (b *Builder) MaxPool3(x *Tensor) *Tensor {
	n, c, h, w := x.shape[0], x.shape[1], x.shape[2], x.shape[3]
	if h%2 != 0 || w%2 != 0 {
		b.fail("3 by 3 pooling of %d by %d: both must be even", h, w)
	}
	y := b.op("MaxPool", []int{n, c, h / 2, w / 2}, []*Tensor{x}, onnxpb.AttrInts("kernel_shape", 3, 3),
		onnxpb.AttrInts("pads", 1, 1, 1, 1), onnxpb.AttrInts("strides", 2, 2))
	return b.differentiable(y, func(dy *Tensor) {
		padded := b.padWith(x, -math.MaxFloat32, 1, 1, 1, 1)
		var phases [4]*Tensor // of row and column of the padded picture: sums of [N, C, H/2+1, W/2+1]
		left := b.op("Expand", y.shape, []*Tensor{b.scalar(1), b.ints(y.shape...)})
		for i := range 9 {
			r, q := i/3, i%3
			hit := b.mul(b.mask("Equal", b.tap(padded, r, q, h, w, 2), y), left)
			left = b.sub(left, hit)
			part := b.pad(b.mul(hit, dy), r/2, q/2, 1-r/2, 1-q/2)
			if k := r%2*2 + q%2; phases[k] == nil {
				phases[k] = part
			} else {
				phases[k] = b.add(phases[k], part)
			}
		}
		b.accumulate(x, b.pad(b.interleave(phases[:]), -1, -1, -1, -1))
	}, x)
}

// AveragePool is 2 by 2 average pooling with stride 2; height and width are even.
func (b *Builder) AveragePool(x *Tensor) *Tensor {
	n, c, h, w := x.shape[0], x.shape[1], x.shape[2], x.shape[3]
	if h%2 != 0 || w%2 != 0 {
		b.fail("2 by 2 pooling of %d by %d: both must be even", h, w)
	}
	y := b.op("AveragePool", []int{n, c, h / 2, w / 2}, []*Tensor{x}, onnxpb.AttrInts("kernel_shape", 2, 2), onnxpb.AttrInts("strides", 2, 2))
	return b.differentiable(y, func(dy *Tensor) { b.accumulate(x, b.upsample(b.mul(dy, b.scalar(0.25)))) }, x)
}

// GlobalAveragePool is the mean over height and width: [N, C, H, W] to [N, C].
func (b *Builder) GlobalAveragePool(x *Tensor) *Tensor {
	y := b.reduce("ReduceMean", x, false, 2, 3)
	return b.differentiable(y, func(dy *Tensor) {
		d := b.mul(dy, b.scalar(1/float64(x.shape[2]*x.shape[3])))
		b.accumulate(x, b.op("Expand", x.shape, []*Tensor{b.spread(d), b.ints(x.shape...)}))
	}, x)
}

// GlobalMaxPool is the maximum over height and width: [N, C, H, W] to [N, C].
// Equal maxima share the gradient evenly, as in torch.amax.
func (b *Builder) GlobalMaxPool(x *Tensor) *Tensor {
	y := b.reduce("ReduceMax", x, false, 2, 3)
	return b.differentiable(y, func(dy *Tensor) {
		hit := b.mask("Equal", x, b.spread(y))
		share := b.div(dy, b.reduce("ReduceSum", hit, false, 2, 3))
		b.accumulate(x, b.mul(hit, b.spread(share)))
	}, x)
}

// spread gives [N, C] the shape [N, C, 1, 1].
func (b *Builder) spread(x *Tensor) *Tensor {
	return b.reshape(x, x.shape[0], x.shape[1], 1, 1)
}
