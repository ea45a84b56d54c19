// Package graph builds ONNX graphs with reverse-mode gradients.
//
// A [Builder] offers the few operators that small convolutional classifiers
// need. In [Training] mode each of them writes its forward nodes and remembers
// how to write its gradient; [Builder.Backward] then adds the gradients of
// every parameter, and [Builder.Update] the update of the parameters, so that one
// run of the emitted model is one whole training step. In [Inference] mode the
// same calls write the forward nodes only, with the parameters as constants, batch
// normalisation on its running statistics and a free batch dimension.
//
// Only standard ONNX operators (opset 18) are emitted, so that every execution
// provider can take the whole graph. Tensors are float32, pictures are
// [N, C, H, W], and scalars have the shape [1].
//
// Shape errors are remembered, not returned by every call: [Builder.Model]
// reports the first one.
package graph

import (
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// Mode says what a Builder writes.
type Mode int

const (
	// Training writes forward, gradients and update for a fixed batch size.
	Training Mode = iota
	// Inference writes the forward pass for any batch size.
	Inference
)

// Dynamic is the size of a batch dimension that is free.
const Dynamic = -1

// Tensor is a value of the graph under construction.
type Tensor struct {
	name  string
	shape []int
	grad  bool // a parameter lies upstream: gradients must reach this value
}

// Name is the tensor's name in the graph.
func (t *Tensor) Name() string { return t.name }

// Shape is the tensor's shape; the batch is [Dynamic] in inference graphs.
func (t *Tensor) Shape() []int { return slices.Clone(t.shape) }

// Array is a constant or a starting value: row-major float32 with its shape.
type Array struct {
	Shape []int
	Data  []float32
}

// Values gives a Builder the parameters and running statistics by name. In
// training they are only declared (nil is fine); in inference they are stored.
type Values map[string]Array

// Slot is a tensor that lives from step to step: an input of the training
// graph under its name, and an output, its next value, under [Next](name).
type Slot struct {
	Name  string
	Shape []int
	Init  Init
}

// Init says how a slot's first value is drawn.
type Init struct {
	Kind  InitKind
	Scale float64 // value of Fill, standard deviation of Normal, bound of Uniform
}

// InitKind is a way to draw first values.
type InitKind int

const (
	// Fill sets every element to Scale.
	Fill InitKind = iota
	// Normal draws from N(0, Scale²).
	Normal
	// Uniform draws from U(−Scale, Scale).
	Uniform
)

// Next is the name of the output that holds a slot's value after the step.
func Next(name string) string { return "next/" + name }

// Momentum is the name of a parameter's momentum slot.
func Momentum(parameter string) string { return "momentum/" + parameter }

// Second is the name of a parameter's slot of AdamW's second moment.
func Second(parameter string) string { return "second/" + parameter }

type parameter struct {
	tensor *Tensor
	decay  bool
}

// Builder collects the nodes of one graph. It is not safe for concurrent use.
type Builder struct {
	mode      Mode
	values    Values
	nodes     []*onnxpb.NodeProto
	constants []*onnxpb.TensorProto
	byKey     map[string]*Tensor // constants that were asked for before
	inputs    []*Tensor
	outputs   []*Tensor
	slots     []Slot
	params    []parameter
	nexts     [][2]*Tensor    // parameters and running statistics with their next values
	private   map[string]bool // slots of the optimiser
	tape      []step
	grads     map[string]*Tensor
	count     int
	err       error
}

type step struct {
	y        *Tensor
	backward func(dy *Tensor)
}

// New starts an empty graph. Inference graphs take their parameters from values.
func New(mode Mode, values Values) *Builder {
	return &Builder{mode: mode, values: values, byKey: map[string]*Tensor{}, private: map[string]bool{}, grads: map[string]*Tensor{}}
}

// Mode says what the builder writes.
func (b *Builder) Mode() Mode { return b.mode }

// Input declares a float32 input of the model.
func (b *Builder) Input(name string, shape ...int) *Tensor {
	t := &Tensor{name: name, shape: shape}
	b.inputs = append(b.inputs, t)
	return t
}

// Param declares a trainable parameter; decay says whether weight decay shrinks it.
func (b *Builder) Param(name string, decay bool, init Init, shape ...int) *Tensor {
	t := b.slot(name, init, shape)
	t.grad = b.mode == Training
	b.params = append(b.params, parameter{t, decay})
	return t
}

// slot declares a value that lives from step to step (training) or a constant.
func (b *Builder) slot(name string, init Init, shape []int) *Tensor {
	t := &Tensor{name: name, shape: slices.Clone(shape)}
	if b.mode == Training {
		b.slots = append(b.slots, Slot{name, t.Shape(), init})
		return t
	}
	v, ok := b.values[name]
	if !ok {
		b.fail("parameter %s %v: no value was given", name, shape)
	} else if !slices.Equal(v.Shape, shape) {
		b.fail("parameter %s: the value has shape %v, the network wants %v", name, v.Shape, shape)
	}
	b.constants = append(b.constants, onnxpb.Float32s(name, v.Data, dims(shape)...))
	return t
}

// Output makes a tensor an output of the model under the given name.
func (b *Builder) Output(name string, t *Tensor) {
	b.nodes = append(b.nodes, onnxpb.Node("Identity", []string{t.name}, []string{name}))
	b.outputs = append(b.outputs, &Tensor{name: name, shape: t.shape})
}

// Slots lists the tensors that live from step to step, in the order of their declaration.
func (b *Builder) Slots() []Slot { return slices.Clone(b.slots) }

// Gradient is the gradient of a parameter after [Builder.Backward], nil where none arrived.
func (b *Builder) Gradient(t *Tensor) *Tensor { return b.grads[t.name] }

// Backward adds the gradients of the scalar loss [1] with respect to every parameter.
func (b *Builder) Backward(loss *Tensor) {
	if !slices.Equal(loss.shape, []int{1}) {
		b.fail("gradient of %s: a loss has the shape [1], not %v", loss.name, loss.shape)
		return
	}
	b.accumulate(loss, b.Const([]int{1}, 1))
	b.propagate()
}

// propagate carries the gradients back through all operators, the last first.
func (b *Builder) propagate() {
	for _, s := range slices.Backward(b.tape) {
		if dy := b.grads[s.y.name]; dy != nil {
			s.backward(dy)
		}
	}
}

// Const is a constant tensor.
func (b *Builder) Const(shape []int, data ...float32) *Tensor {
	if len(data) != size(shape) {
		b.fail("constant %v: %d values", shape, len(data))
	}
	key := ""
	if len(data) <= 16 {
		key = fmt.Sprint("f", shape, data)
	}
	return b.constant(key, shape, func(name string) *onnxpb.TensorProto {
		return onnxpb.Float32s(name, data, dims(shape)...)
	})
}

// scalar is a constant of shape [1].
func (b *Builder) scalar(v float64) *Tensor { return b.Const([]int{1}, float32(v)) }

// ints is a constant vector of int64: a shape, axes, pads.
func (b *Builder) ints(v ...int) *Tensor {
	return b.constant(fmt.Sprint("i", v), []int{len(v)}, func(name string) *onnxpb.TensorProto {
		return onnxpb.Int64s(name, dims(v), int64(len(v)))
	})
}

// constant stores a tensor once per key; an empty key is never shared.
func (b *Builder) constant(key string, shape []int, store func(name string) *onnxpb.TensorProto) *Tensor {
	if t, ok := b.byKey[key]; ok {
		return t
	}
	t := &Tensor{name: b.fresh("const"), shape: slices.Clone(shape)}
	b.constants = append(b.constants, store(t.name))
	if key != "" {
		b.byKey[key] = t
	}
	return t
}

// op appends one node with one output of the given shape.
func (b *Builder) op(kind string, shape []int, in []*Tensor, attrs ...*onnxpb.AttributeProto) *Tensor {
	t := &Tensor{name: b.fresh(kind), shape: slices.Clone(shape)}
	names := make([]string, len(in))
	for i, x := range in {
		names[i] = x.name
	}
	b.nodes = append(b.nodes, onnxpb.Node(kind, names, []string{t.name}, attrs...))
	return t
}

// differentiable marks y as depending on xs and remembers its gradient.
func (b *Builder) differentiable(y *Tensor, backward func(dy *Tensor), xs ...*Tensor) *Tensor {
	y.grad = slices.ContainsFunc(xs, func(x *Tensor) bool { return x.grad })
	if y.grad {
		b.tape = append(b.tape, step{y, backward})
	}
	return y
}

// accumulate adds d to the gradient of x.
func (b *Builder) accumulate(x, d *Tensor) {
	if !x.grad {
		return
	}
	if g := b.grads[x.name]; g != nil {
		d = b.add(g, d)
	}
	b.grads[x.name] = d
}

func (b *Builder) fresh(kind string) string {
	b.count++
	return fmt.Sprintf("%s_%d", kind, b.count)
}

func (b *Builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("graph: "+format, args...)
	}
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func dims(shape []int) []int64 {
	out := make([]int64, len(shape))
	for i, d := range shape {
		out[i] = int64(d)
	}
	return out
}
