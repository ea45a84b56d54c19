package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/train/graph"
)

// ErrDiverged is returned by [Trainer.Step] when a loss is not finite. The
// trainer then still holds the state before that step.
var ErrDiverged = errors.New("training diverged")

// Trainer runs training steps. It is not safe for concurrent use.
type Trainer struct {
	spec    Spec
	session *onnx.Session
	slots   []graph.Slot
	step    int64

	// Two sets of state tensors in turn: a step reads one and writes the other,
	// so that a cancelled or diverged step leaves the state as it was.
	state   [2]map[string]*onnx.Tensor
	current int
	in, out map[string]*onnx.Tensor // what a step reads and writes beside the state
}

// New compiles the training step and draws the initial parameters.
func New(spec Spec, cfg Config) (*Trainer, error) {
	spec = spec.withDefaults()
	if err := spec.validate(); err != nil {
		return nil, err
	}
	model, slots, err := compileStep(spec)
	if err != nil {
		return nil, err
	}
	t := &Trainer{spec: spec, slots: slots}
	if err := t.allocate(); err != nil {
		t.Close()
		return nil, fmt.Errorf("train %s: %w", spec.Network, err)
	}
	if t.session, err = onnx.NewSession(model, cfg); err != nil {
		t.Close()
		return nil, fmt.Errorf("train %s: %w", spec.Network, err)
	}
	for _, s := range slots {
		named := s // an average begins as what it is of
		named.Name = strings.TrimPrefix(s.Name, graph.Average(""))
		copy(t.tensor(s.Name), initial(named, spec.Seed).Data)
	}
	return t, nil
}

// allocate makes all tensors that steps read and write, once.
func (t *Trainer) allocate() error {
	var errs []error
	empty := func(shape ...int) *onnx.Tensor {
		wide := make([]int64, len(shape))
		for i, d := range shape {
			wide[i] = int64(d)
		}
		x, err := onnx.EmptyFloat32(wide...)
		errs = append(errs, err)
		return x
	}
	s, rows, classes := t.spec, t.spec.Batch+t.spec.Outliers, t.spec.Head.Classes()
	t.in = map[string]*onnx.Tensor{
		inImages: empty(rows, 3, s.Height, s.Width), inTargets: empty(s.Batch, classes),
		inWeights: empty(s.Batch), inRate: empty(1),
	}
	t.out = map[string]*onnx.Tensor{outLoss: empty(1), outCE: empty(1), outLogits: empty(rows, classes)}
	if c, ok := s.Head.(Classifier); ok {
		if c.Outliers != nil {
			t.out[outOOD] = empty(1)
		}
		if c.Singular != nil {
			t.out[outExtra] = empty(1)
			for name, n := range c.Singular.inputs(c.N, s.Network.Features()) {
				t.in[name] = empty(1, n)
			}
		}
	}
	if s.Optimizer.Bound() > 0 {
		t.out[outNorm] = empty(1)
	}
	for name := range s.Optimizer.Inputs(1) {
		t.in[name] = empty(1)
	}
	if s.EMA > 0 {
		t.in[inShare] = empty(1)
	}
	for i := range t.state {
		t.state[i] = map[string]*onnx.Tensor{}
		for _, slot := range t.slots {
			t.state[i][slot.Name] = empty(slot.Shape...)
		}
	}
	return errors.Join(errs...)
}

// Close frees the compiled step and its tensors.
func (t *Trainer) Close() error {
	var errs []error
	if t.session != nil {
		errs = append(errs, t.session.Close())
	}
	for _, set := range []map[string]*onnx.Tensor{t.in, t.out, t.state[0], t.state[1]} {
		for _, x := range set {
			if x != nil {
				errs = append(errs, x.Close())
			}
		}
	}
	return errors.Join(errs...)
}

// Steps is the number of steps that were taken, over all processes.
func (t *Trainer) Steps() int64 { return t.step }

// Spec is the spec with its defaults filled in.
func (t *Trainer) Spec() Spec { return t.spec }

// Losses are what a step reports, before its update.
type Losses struct {
	Total    float64 // CE + β·OOD + λ·Penalty
	CE       float64 // cross-entropy of the in-distribution rows
	OOD      float64 // what the outliers teach; see [OutlierLoss]
	Penalty  float64 // 1/σ_min or σ_max/σ_min; see [Singular]
	GradNorm float64 // norm of all gradients before clipping; 0 without clipping
	Correct  int     // in-distribution rows whose largest logit is that of their target
	Rows     int     // in-distribution rows that counted (weight above 0)
}

// Step runs one training step with the given learning rate. It returns
// ctx.Err() when cancelled and [ErrDiverged] for a loss that is not finite; in
// both cases the state is as before.
func (t *Trainer) Step(ctx context.Context, batch Batch, rate float32) (Losses, error) {
	if err := t.fill(batch, rate); err != nil {
		return Losses{}, fmt.Errorf("training step %d: %w", t.step+1, err)
	}
	if c, ok := t.spec.Head.(Classifier); ok && c.Singular != nil {
		input := func(name string) []float32 { return t.in[name].Float32() }
		if err := c.Singular.fill(t.tensor("fc.weight"), c.N, t.spec.Network.Features(), input); err != nil {
			return Losses{}, fmt.Errorf("training step %d: %w", t.step+1, err)
		}
	}
	for name, v := range t.spec.Optimizer.Inputs(t.step + 1) {
		t.in[name].Float32()[0] = float32(v)
	}
	if t.spec.EMA > 0 {
		n := float64(t.step + 1)
		t.in[inShare].Float32()[0] = float32(1 - min(t.spec.EMA, (1+n)/(10+n)))
	}
	in := make(map[string]*onnx.Tensor, len(t.in)+len(t.slots))
	out := make(map[string]*onnx.Tensor, len(t.out)+len(t.slots))
	for name, x := range t.in {
		in[name] = x
	}
	for name, x := range t.out {
		out[name] = x
	}
	for _, s := range t.slots {
		in[s.Name] = t.state[t.current][s.Name]
		out[graph.Next(s.Name)] = t.state[1-t.current][s.Name]
	}
	if err := t.session.RunInto(ctx, in, out); err != nil {
		return Losses{}, fmt.Errorf("training step %d: %w", t.step+1, err)
	}
	losses := t.losses()
	for _, v := range []float64{losses.Total, losses.CE, losses.OOD, losses.Penalty, losses.GradNorm} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return losses, fmt.Errorf("training step %d at learning rate %g: loss %g (cross-entropy %g, outliers %g, gradient norm %g): %w; lower the learning rate, clip the gradients or look at the pictures",
				t.step+1, rate, losses.Total, losses.CE, losses.OOD, losses.GradNorm, ErrDiverged)
		}
	}
	t.current = 1 - t.current
	t.step++
	return losses, nil
}

func (t *Trainer) losses() Losses {
	value := func(name string) float64 {
		if x := t.out[name]; x != nil {
			return float64(x.Float32()[0])
		}
		return 0
	}
	l := Losses{Total: value(outLoss), CE: value(outCE), OOD: value(outOOD), Penalty: value(outExtra), GradNorm: value(outNorm)}
	c := t.spec.Head.Classes()
	logits, targets := t.out[outLogits].Float32(), t.in[inTargets].Float32()
	for i, w := range t.in[inWeights].Float32() {
		if w == 0 {
			continue
		}
		l.Rows++
		if argmax(logits[i*c:(i+1)*c]) == argmax(targets[i*c:(i+1)*c]) {
			l.Correct++
		}
	}
	return l
}

func argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

// tensor is the current value of a slot.
func (t *Trainer) tensor(name string) []float32 { return t.state[t.current][name].Float32() }
