package graph

import "github.com/dreamood/dreamood/internal/onnx/onnxpb"

// correlate is Σ over n and pixels of p[n, i, ·]·q[n, j, ·]: [N, I, H, W] and
// [N, J, H, W] to [I, J].
func (b *Builder) correlate(p, q *Tensor) *Tensor {
	n, i, j, l := p.shape[0], p.shape[1], q.shape[1], p.shape[2]*p.shape[3]
	if perPicture(i, j, l) {
		return b.sumOfProducts(p, q)
	}
	flat := func(t *Tensor) *Tensor { return b.reshape(b.transpose(t, 1, 0, 2, 3), t.shape[1], n*l) }
	return b.crossProduct(flat(p), flat(q))
}

// correlateStacks is [Builder.correlate] of two stacks of three shifted copies: [3I, 3J].
func (b *Builder) correlateStacks(p *Tensor, moveP func(*Tensor, int) *Tensor, q *Tensor, moveQ func(*Tensor, int) *Tensor) *Tensor {
	n, i, j, l := p.shape[0], p.shape[1], q.shape[1], p.shape[2]*p.shape[3]
	stack := func(t *Tensor, axis int, move func(*Tensor, int) *Tensor) *Tensor {
		return b.concat(axis, move(t, 0), move(t, 1), move(t, 2))
	}
	if perPicture(3*i, 3*j, l) {
		return b.sumOfProducts(stack(p, 1, moveP), stack(q, 1, moveQ))
	}
	flat := func(t *Tensor, move func(*Tensor, int) *Tensor) *Tensor {
		return b.reshape(stack(b.transpose(t, 1, 0, 2, 3), 0, move), 3*t.shape[1], n*l)
	}
	return b.crossProduct(flat(p, moveP), flat(q, moveQ))
}

// perPicture says whether one product per picture and a sum over pictures beats
// one product over the whole batch. The first moves the I·J results of every
// picture, the second has to transpose I+J channels of L pixels of every picture.
func perPicture(i, j, l int) bool { return i*j <= (i+j)*l }

func (b *Builder) sumOfProducts(p, q *Tensor) *Tensor {
	n, i, j, l := p.shape[0], p.shape[1], q.shape[1], p.shape[2]*p.shape[3]
	t := b.transpose(b.reshape(q, n, j, l), 0, 2, 1)
	m := b.op("MatMul", []int{n, i, j}, []*Tensor{b.reshape(p, n, i, l), t})
	return b.reduce("ReduceSum", m, false, 0)
}

func (b *Builder) crossProduct(p, q *Tensor) *Tensor {
	return b.op("Gemm", []int{p.shape[0], q.shape[0]}, []*Tensor{p, q}, onnxpb.AttrInt("transB", 1))
}
