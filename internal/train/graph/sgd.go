package graph

// SGD is stochastic gradient descent as in torch.optim.SGD (dampening 0).
type SGD struct {
	Momentum    float64 // of the velocity, usually 0.9
	Nesterov    bool    // look ahead along the velocity
	WeightDecay float64 // added to the gradient as decay·w; not for biases and batch normalisation
	ClipNorm    float64 // bound on the norm of all gradients together; 0 is no bound
}

// SGD writes the update of every parameter: with gradient g (clipped), velocity
// v and learning rate [1], d = g + decay·w; v' = momentum·v + d;
// w' = w − rate·(d + momentum·v') (Nesterov) or w − rate·v'. It returns the
// norm of all gradients before clipping, [1], or nil where ClipNorm is 0.
func (b *Builder) SGD(o SGD, rate *Tensor) *Tensor {
	scale, norm := b.clip(o.ClipNorm)
	momentum := b.scalar(o.Momentum)
	for _, p := range b.params {
		w, d := p.tensor, b.grads[p.tensor.name]
		if d == nil {
			b.fail("parameter %s has no gradient: nothing in the loss depends on it", w.name)
			continue
		}
		if scale != nil {
			d = b.mul(d, scale)
		}
		if p.decay && o.WeightDecay != 0 {
			d = b.add(d, b.mul(w, b.scalar(o.WeightDecay)))
		}
		move := d
		if o.Momentum != 0 {
			v := b.slot(Momentum(w.name), Init{}, w.shape)
			next := b.add(b.mul(v, momentum), d)
			b.Output(Next(v.name), next)
			move = next
			if o.Nesterov {
				move = b.add(d, b.mul(next, momentum))
			}
		}
		b.Output(Next(w.name), b.sub(w, b.mul(move, rate)))
	}
	return norm
}

// clip is min(1, bound/(norm + 1e-6)) of all gradients together, and the norm.
func (b *Builder) clip(bound float64) (scale, norm *Tensor) {
	if bound == 0 {
		return nil, nil
	}
	var total *Tensor
	for _, p := range b.params {
		g := b.grads[p.tensor.name]
		if g == nil {
			continue
		}
		flat := b.reshape(b.mul(g, g), size(g.shape))
		sum := b.reduce("ReduceSum", flat, true, 0)
		if total == nil {
			total = sum
		} else {
			total = b.add(total, sum)
		}
	}
	if total == nil {
		return nil, nil
	}
	norm = b.sqrt(total)
	scale = b.div(b.scalar(bound), b.add(norm, b.scalar(1e-6)))
	return b.op("Min", []int{1}, []*Tensor{scale, b.scalar(1)}), norm
}
