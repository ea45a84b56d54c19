package graph

import (
	"errors"
	"fmt"
)

// SGD is stochastic gradient descent as in torch.optim.SGD (dampening 0).
type SGD struct {
	Momentum    float64 // of the velocity, usually 0.9
	Nesterov    bool    // look ahead along the velocity
	WeightDecay float64 // added to the gradient as decay·w; not for biases and batch normalisation
	ClipNorm    float64 // bound on the norm of all gradients together; 0 is no bound
}

// Validate wants a momentum in [0, 1), above 0 for Nesterov, and the rest not negative.
func (o SGD) Validate() error {
	var errs []error
	if !(o.Momentum >= 0 && o.Momentum < 1) {
		errs = append(errs, fmt.Errorf("optimizer: momentum %g; it lies in [0, 1)", o.Momentum))
	}
	if o.Nesterov && o.Momentum == 0 {
		errs = append(errs, errors.New("optimizer: Nesterov needs a momentum above 0"))
	}
	return errors.Join(append(errs, notNegative("weight decay", o.WeightDecay), notNegative("clip norm", o.ClipNorm))...)
}

// Inputs are none.
func (SGD) Inputs(int64) map[string]float64 { return nil }

// Bound is ClipNorm.
func (o SGD) Bound() float64 { return o.ClipNorm }

func (SGD) begin(*Builder) {}

// move: with gradient g and velocity v, d = g + decay·w; v' = momentum·v + d; w' = w − rate·(d + momentum·v') (Nesterov)
// or w − rate·v'.
func (o SGD) move(b *Builder, p parameter, d, rate *Tensor) *Tensor {
	w, momentum := p.tensor, b.scalar(o.Momentum)
	if p.decay && o.WeightDecay != 0 {
		d = b.add(d, b.mul(w, b.scalar(o.WeightDecay)))
	}
	move := d
	if o.Momentum != 0 {
		v := b.keep(Momentum(w.name), w.shape)
		next := b.add(b.mul(v, momentum), d)
		b.Output(Next(v.name), next)
		move = next
		if o.Nesterov {
			move = b.add(d, b.mul(next, momentum))
		}
	}
	return b.sub(w, b.mul(move, rate))
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
