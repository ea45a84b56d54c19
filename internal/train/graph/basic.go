package graph

import (
	"slices"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// The small pieces that operators and gradients are made of; none of them is
// differentiable by itself. The result of a binary piece has the shape of its
// first operand.

func (b *Builder) add(x, y *Tensor) *Tensor { return b.op("Add", x.shape, []*Tensor{x, y}) }
func (b *Builder) sub(x, y *Tensor) *Tensor { return b.op("Sub", x.shape, []*Tensor{x, y}) }
func (b *Builder) mul(x, y *Tensor) *Tensor { return b.op("Mul", x.shape, []*Tensor{x, y}) }
func (b *Builder) div(x, y *Tensor) *Tensor { return b.op("Div", x.shape, []*Tensor{x, y}) }
func (b *Builder) neg(x *Tensor) *Tensor    { return b.op("Neg", x.shape, []*Tensor{x}) }
func (b *Builder) sqrt(x *Tensor) *Tensor   { return b.op("Sqrt", x.shape, []*Tensor{x}) }

func (b *Builder) reshape(x *Tensor, shape ...int) *Tensor {
	return b.op("Reshape", shape, []*Tensor{x, b.ints(shape...)})
}

func (b *Builder) transpose(x *Tensor, perm ...int) *Tensor {
	shape := make([]int, len(perm))
	for i, p := range perm {
		shape[i] = x.shape[p]
	}
	return b.op("Transpose", shape, []*Tensor{x}, onnxpb.AttrInts("perm", dims(perm)...))
}

func (b *Builder) concat(axis int, xs ...*Tensor) *Tensor {
	shape := slices.Clone(xs[0].shape)
	for _, x := range xs[1:] {
		shape[axis] += x.shape[axis]
	}
	return b.op("Concat", shape, xs, onnxpb.AttrInt("axis", int64(axis)))
}

// pad adds zeros around the last two axes; negative amounts crop.
func (b *Builder) pad(x *Tensor, top, left, bottom, right int) *Tensor {
	return b.padWith(x, 0, top, left, bottom, right)
}

func (b *Builder) padWith(x *Tensor, value float32, top, left, bottom, right int) *Tensor {
	s := x.shape
	shape := []int{s[0], s[1], s[2] + top + bottom, s[3] + left + right}
	in := []*Tensor{x, b.ints(0, 0, top, left, 0, 0, bottom, right)}
	if value != 0 {
		in = append(in, b.Const([]int{1}, value))
	}
	return b.op("Pad", shape, in)
}

// shift moves a picture: y[h, w] = x[h+dy, w+dx], zero outside.
func (b *Builder) shift(x *Tensor, dy, dx int) *Tensor {
	if dy == 0 && dx == 0 {
		return x
	}
	return b.pad(x, -dy, -dx, dy, dx)
}

// reduce applies a reduction (ReduceMean, ReduceSum, …) over the axes.
func (b *Builder) reduce(kind string, x *Tensor, keep bool, axes ...int) *Tensor {
	var shape []int
	for i, d := range x.shape {
		switch {
		case !slices.Contains(axes, i):
			shape = append(shape, d)
		case keep:
			shape = append(shape, 1)
		}
	}
	k := int64(0)
	if keep {
		k = 1
	}
	return b.op(kind, shape, []*Tensor{x, b.ints(axes...)}, onnxpb.AttrInt("keepdims", k))
}

// mask is 1 where the comparison (Equal, Greater) holds, else 0.
func (b *Builder) mask(comparison string, x, y *Tensor) *Tensor {
	return b.op("Cast", x.shape, []*Tensor{b.op(comparison, x.shape, []*Tensor{x, y})}, onnxpb.AttrInt("to", int64(onnxpb.TensorProto_FLOAT)))
}

// upsample repeats every pixel of [N, C, H, W] 2 by 2.
func (b *Builder) upsample(x *Tensor) *Tensor {
	s := x.shape
	none := &Tensor{}
	return b.op("Resize", []int{s[0], s[1], 2 * s[2], 2 * s[3]},
		[]*Tensor{x, none, b.Const([]int{4}, 1, 1, 2, 2)},
		onnxpb.AttrString("mode", "nearest"), onnxpb.AttrString("coordinate_transformation_mode", "asymmetric"),
		onnxpb.AttrString("nearest_mode", "floor"))
}

// pattern is a [1, 1, H, W] constant that repeats the four values of a 2 by 2 window.
func (b *Builder) pattern(h, w int, window [4]float32) *Tensor {
	data := make([]float32, 0, h*w)
	for y := range h {
		for x := range w {
			data = append(data, window[y%2*2+x%2])
		}
	}
	return b.Const([]int{1, 1, h, w}, data...)
}
