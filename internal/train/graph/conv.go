package graph

import "github.com/dreamood/dreamood/internal/onnx/onnxpb"

// Conv is the convolution of x [N, C, H, W] with w [O, C, K, K], K = 1, 3 or 7,
// without bias, zero padding K/2 and stride 1 or 2 (height and width even). The
// 7 by 7 one is a network's first layer: no gradient passes through it.
func (b *Builder) Conv(x, w *Tensor, stride int) *Tensor {
	c, h, wd, k := x.shape[1], x.shape[2], x.shape[3], w.shape[2]
	switch {
	case w.shape[1] != c || w.shape[3] != k || k != 1 && k != 3 && k != 7:
		b.fail("convolution %s: weight %v does not fit the input %v (kernels of 1 by 1, 3 by 3 and 7 by 7)", w.name, w.shape, x.shape)
	case k == 7 && x.grad:
		b.fail("convolution %s: a 7 by 7 kernel is for the first layer alone", w.name)
	case stride != 1 && (stride != 2 || h%2 != 0 || wd%2 != 0):
		b.fail("convolution %s: stride %d of %d by %d: strides are 1, or 2 for even sizes", w.name, stride, h, wd)
	case k == 3:
		y := b.conv(x, w, stride, [4]int{1, 1, 1, 1})
		return b.differentiable(y, func(dy *Tensor) { b.conv3Gradient(x, w, dy, stride) }, x, w)
	case k == 7:
		y := b.conv(x, w, stride, [4]int{3, 3, 3, 3})
		return b.differentiable(y, func(dy *Tensor) { b.accumulate(w, b.unrolledGradient(x, w, dy, stride)) }, w)
	default:
		return b.conv1(x, w, stride)
	}
	return x
}

// conv1 is the 1 by 1 convolution. Strided training keeps the sampled input for the gradient.
func (b *Builder) conv1(x, w *Tensor, stride int) *Tensor {
	s := x
	if stride == 2 && b.mode == Training {
		s = b.window(x, []int{x.shape[0], x.shape[1], x.shape[2] / 2, x.shape[3] / 2}, 1, 1)
		stride = 1
	}
	y := b.conv(s, w, stride, [4]int{})
	return b.differentiable(y, func(dy *Tensor) {
		if w.grad {
			b.accumulate(w, b.reshape(b.correlate(dy, s), w.shape...))
		}
		if !x.grad {
			return
		}
		dx := b.conv(dy, b.turned(w, 0), 1, [4]int{})
		if s != x { // every second pixel was read: spread with zeros between
			dx = b.mul(b.upsample(dx), b.pattern(x.shape[2], x.shape[3], [4]float32{1, 0, 0, 0}))
		}
		b.accumulate(x, dx)
	}, x, w)
}

// conv is the bare operator; pads are top, left, bottom, right.
func (b *Builder) conv(x, w *Tensor, stride int, pads [4]int) *Tensor {
	kh, kw := w.shape[2], w.shape[3]
	h := (x.shape[2]+pads[0]+pads[2]-kh)/stride + 1
	wd := (x.shape[3]+pads[1]+pads[3]-kw)/stride + 1
	return b.op("Conv", []int{x.shape[0], w.shape[0], h, wd}, []*Tensor{x, w},
		onnxpb.AttrInts("kernel_shape", int64(kh), int64(kw)),
		onnxpb.AttrInts("pads", dims(pads[:])...),
		onnxpb.AttrInts("strides", int64(stride), int64(stride)))
}

func (b *Builder) conv3Gradient(x, w, dy *Tensor, stride int) {
	if w.grad {
		b.accumulate(w, b.weightGradient(x, w, dy, stride))
	}
	switch {
	case !x.grad:
	case stride == 1:
		b.accumulate(x, b.conv(dy, b.turned(w, 8, 7, 6, 5, 4, 3, 2, 1, 0), 1, [4]int{1, 1, 1, 1}))
	default:
		b.accumulate(x, b.stridedInputGradient(w, dy))
	}
}

// weightGradient is dW[o, c, a, b] = Σ dy[n, o, y, x]·x[n, c, s·y+a−1, s·x+b−1].
//
// With stride 1 the nine taps are one matrix product: three row shifts of x
// against three column shifts of dy, [3O, L]·[L, 3C] (the product over all
// pixels of x shifted by a row and dy shifted by the opposite column equals the
// one of x shifted by both, since what is shifted out meets zeros). Where nine
// copies of x are less to move than three of x and three of dy (few input
// channels), and with stride 2, x is unrolled into [9C, L] instead.
func (b *Builder) weightGradient(x, w, dy *Tensor, stride int) *Tensor {
	o, c := w.shape[0], w.shape[1]
	if stride == 1 && 9*c >= 3*c+3*o {
		m := b.correlateStacks(
			dy, func(d *Tensor, i int) *Tensor { return b.shift(d, 0, 1-i) },
			x, func(d *Tensor, i int) *Tensor { return b.shift(d, i-1, 0) })
		return b.transpose(b.reshape(m, 3, o, 3, c), 1, 3, 2, 0)
	}
	return b.unrolledGradient(x, w, dy, stride)
}

// unrolledGradient is dW with x unrolled into [K²·C, L].
func (b *Builder) unrolledGradient(x, w, dy *Tensor, stride int) *Tensor {
	o, c, k := w.shape[0], w.shape[1], w.shape[2]
	padded := b.pad(x, k/2, k/2, k/2, k/2)
	var taps []*Tensor
	for i := range k * k {
		taps = append(taps, b.tap(padded, i/k, i%k, x.shape[2], x.shape[3], stride))
	}
	m := b.correlate(dy, b.concat(1, taps...))
	return b.transpose(b.reshape(m, o, k, k, c), 0, 3, 1, 2)
}

// tap is every stride-th pixel of the h by w pixels of a padded picture that begin at (row, column).
func (b *Builder) tap(padded *Tensor, row, column, h, w, stride int) *Tensor {
	return b.op("Slice", []int{padded.shape[0], padded.shape[1], h / stride, w / stride},
		[]*Tensor{padded, b.ints(row, column), b.ints(row+h, column+w), b.ints(2, 3), b.ints(stride, stride)})
}

// stridedInputGradient is dX of a 3 by 3 convolution with stride 2: one small
// convolution for each parity of row and column, interleaved.
func (b *Builder) stridedInputGradient(w, dy *Tensor) *Tensor {
	taps := [2][]int{{1}, {2, 0}} // kernel rows that meet an even row, an odd row
	var phases []*Tensor
	for _, rows := range taps {
		for _, columns := range taps {
			var index []int
			for _, r := range rows {
				for _, q := range columns {
					index = append(index, 3*r+q)
				}
			}
			k := b.reshape(b.turned(w, index...), w.shape[1], w.shape[0], len(rows), len(columns))
			phases = append(phases, b.conv(dy, k, 1, [4]int{0, 0, len(rows) - 1, len(columns) - 1}))
		}
	}
	return b.interleave(phases)
}

// interleave puts four pictures together: of even rows and columns, even rows and odd columns, odd and even, odd and odd.
func (b *Builder) interleave(phases []*Tensor) *Tensor {
	s := phases[0].shape
	return b.op("DepthToSpace", []int{s[0], s[1], 2 * s[2], 2 * s[3]}, []*Tensor{b.concat(1, phases...)},
		onnxpb.AttrInt("blocksize", 2), onnxpb.AttrString("mode", "DCR"))
}

// turned swaps the channels of a weight [O, C, K, K] and takes the given taps: [C, O, k, k].
func (b *Builder) turned(w *Tensor, taps ...int) *Tensor {
	o, c, k := w.shape[0], w.shape[1], w.shape[2]
	if k == 1 {
		return b.transpose(w, 1, 0, 2, 3)
	}
	flat := b.op("Gather", []int{o, c, len(taps)}, []*Tensor{b.reshape(w, o, c, k*k), b.ints(taps...)},
		onnxpb.AttrInt("axis", 2))
	t := b.transpose(flat, 1, 0, 2)
	if len(taps) == k*k {
		return b.reshape(t, c, o, k, k)
	}
	return t
}
