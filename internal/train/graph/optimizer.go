package graph

import (
	"errors"
	"fmt"
	"math"
)

// Optimizer turns gradients into new parameters. The set is closed: [SGD] and [AdamW].
type Optimizer interface {
	// Validate reports every setting that is out of bounds.
	Validate() error
	// Inputs are further inputs of shape [1] that [Builder.Update] declares, with their values at a step counted from 1.
	Inputs(step int64) map[string]float64
	// Bound on the norm of all gradients together; 0 is no bound.
	Bound() float64
	// begin is called once, before move.
	begin(b *Builder)
	// move is w' for the (clipped) gradient d of a parameter and the learning rate [1].
	move(b *Builder, p parameter, d, rate *Tensor) *Tensor
}

// Update writes the next value of every parameter. It returns the norm of all gradients before clipping, [1], or nil
// where the optimiser has no bound.
func (b *Builder) Update(o Optimizer, rate *Tensor) *Tensor {
	scale, norm := b.clip(o.Bound())
	o.begin(b)
	for _, p := range b.params {
		d := b.grads[p.tensor.name]
		if d == nil {
			b.fail("parameter %s has no gradient: nothing in the loss depends on it", p.tensor.name)
			continue
		}
		if scale != nil {
			d = b.mul(d, scale)
		}
		b.advance(p.tensor, o.move(b, p, d, rate))
	}
	return norm
}

// advance makes next the value of a slot after the step.
func (b *Builder) advance(slot, next *Tensor) {
	b.Output(Next(slot.name), next)
	b.nexts = append(b.nexts, [2]*Tensor{slot, next})
}

// Average is the name of the slot that holds the moving average of a parameter or running statistic.
func Average(name string) string { return "average/" + name }

// Average keeps an exponential moving average of every parameter and running statistic, a' = a + share·(w' − a), in the
// slot [Average](name); share [1] is one minus the decay. It comes after [Builder.Update] and does not change the training.
func (b *Builder) Average(share *Tensor) {
	for _, n := range b.nexts {
		w, next := n[0], n[1]
		if b.private[w.name] {
			continue
		}
		a := b.slot(Average(w.name), b.initOf(w.name), w.shape)
		b.Output(Next(a.name), b.add(a, b.mul(b.sub(next, a), share)))
	}
}

// initOf is how a slot begins.
func (b *Builder) initOf(name string) Init {
	for _, s := range b.slots {
		if s.Name == name {
			return s.Init
		}
	}
	return Init{}
}

// keep declares a slot of the optimiser's own, which begins at 0 and is not averaged.
func (b *Builder) keep(name string, shape []int) *Tensor {
	b.private[name] = true
	return b.slot(name, Init{}, shape)
}

// AdamW is Adam with decoupled weight decay as in torch.optim.AdamW (Loshchilov and Hutter 2019).
type AdamW struct {
	Beta1, Beta2 float64 // of the moments; 0 is 0.9 and 0.999
	Epsilon      float64 // 0 is 1e-8
	WeightDecay  float64 // shrinks weights by rate·decay; not biases and batch normalisation
	ClipNorm     float64 // bound on the norm of all gradients together; 0 is no bound
}

// Names of the inputs of AdamW.
const (
	adamFirst  = "adamw/first"  // 1/(1 − β1^t)
	adamSecond = "adamw/second" // 1/√(1 − β2^t)
)

func (o AdamW) filled() AdamW {
	for _, f := range []struct {
		v *float64
		d float64
	}{{&o.Beta1, 0.9}, {&o.Beta2, 0.999}, {&o.Epsilon, 1e-8}} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return o
}

// Validate wants betas in [0, 1) and the rest not negative.
func (o AdamW) Validate() error {
	f := o.filled()
	var errs []error
	if !(f.Beta1 > 0 && f.Beta1 < 1 && f.Beta2 > 0 && f.Beta2 < 1) {
		errs = append(errs, fmt.Errorf("optimizer: betas %g and %g; they lie between 0 and 1", o.Beta1, o.Beta2))
	}
	return errors.Join(append(errs, notNegative("epsilon", f.Epsilon), notNegative("weight decay", o.WeightDecay), notNegative("clip norm", o.ClipNorm))...)
}

// Inputs are the corrections for moments that begin at 0; in float32 1 − β2^t would lose three digits.
func (o AdamW) Inputs(step int64) map[string]float64 {
	f, t := o.filled(), float64(step)
	return map[string]float64{adamFirst: 1 / (1 - math.Pow(f.Beta1, t)), adamSecond: 1 / math.Sqrt(1-math.Pow(f.Beta2, t))}
}

// Bound is ClipNorm.
func (o AdamW) Bound() float64 { return o.ClipNorm }

func (o AdamW) begin(b *Builder) {
	b.Input(adamFirst, 1)
	b.Input(adamSecond, 1)
}

// move: m' = β1·m + (1−β1)·g; v' = β2·v + (1−β2)·g²; w' = w·(1 − rate·decay) − rate·m̂/(√v̂ + ε).
func (o AdamW) move(b *Builder, p parameter, d, rate *Tensor) *Tensor {
	f, w := o.filled(), p.tensor
	first, second := &Tensor{name: adamFirst, shape: []int{1}}, &Tensor{name: adamSecond, shape: []int{1}}
	blend := func(slot, by *Tensor, beta float64) *Tensor {
		next := b.add(b.mul(slot, b.scalar(beta)), b.mul(by, b.scalar(1-beta)))
		b.Output(Next(slot.name), next)
		return next
	}
	m := blend(b.keep(Momentum(w.name), w.shape), d, f.Beta1)
	v := blend(b.keep(Second(w.name), w.shape), b.mul(d, d), f.Beta2)
	root := b.add(b.mul(b.sqrt(v), second), b.scalar(f.Epsilon))
	step := b.div(b.mul(m, b.mul(rate, first)), root)
	if p.decay && o.WeightDecay != 0 {
		w = b.mul(w, b.sub(b.scalar(1), b.mul(rate, b.scalar(o.WeightDecay))))
	}
	return b.sub(w, step)
}

func notNegative(what string, v float64) error {
	if !(v >= 0) || math.IsInf(v, 0) {
		return fmt.Errorf("optimizer: %s %g; it is finite and not negative", what, v)
	}
	return nil
}
