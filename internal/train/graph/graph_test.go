package graph

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/train/safetensors"
)

func TestMistakesAreReported(t *testing.T) {
	picture := func(b *Builder) *Tensor { return b.Input("x", 2, 3, 5, 4) }
	weight := func(b *Builder, shape ...int) *Tensor { return b.Param("w", true, Init{}, shape...) }
	for want, build := range map[string]func(b *Builder){
		"both must be even":           func(b *Builder) { b.MaxPool(picture(b)) },
		"strides are 1, or 2":         func(b *Builder) { b.Conv(picture(b), weight(b, 4, 3, 3, 3), 2) },
		"does not fit the input":      func(b *Builder) { b.Conv(picture(b), weight(b, 4, 2, 3, 3), 1) },
		"kernels of 1 by 1":           func(b *Builder) { b.Conv(picture(b), weight(b, 4, 3, 5, 5), 1) },
		"the shapes differ":           func(b *Builder) { b.Add(picture(b), b.Input("y", 2, 3)) },
		"input [2 3] and weight":      func(b *Builder) { b.Linear(b.Input("y", 2, 3), weight(b, 4, 2), nil) },
		"rows [1, 3) of a batch of 2": func(b *Builder) { b.Rows(b.Input("y", 2, 3), 1, 3) },
		"a loss has the shape [1]":    func(b *Builder) { b.Backward(picture(b)) },
		"has no gradient":             func(b *Builder) { weight(b, 1); b.Update(SGD{}, b.Input("rate", 1)) },
		"has no variance":             func(b *Builder) { b.BatchNorm(b.Input("y", 1, 3, 1, 1), "bn") },
	} {
		b := New(Training, nil)
		build(b)
		if _, err := b.Model("m", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestInferenceWantsItsParameters(t *testing.T) {
	b := New(Inference, Values{"short": {Shape: []int{1}, Data: []float32{1}}})
	b.Param("short", false, Init{}, 2)
	if _, err := b.Model("m", nil); err == nil || !strings.Contains(err.Error(), "short: the value has shape [1], the network wants [2]") {
		t.Error(err)
	}
	b = New(Inference, nil)
	b.Param("absent", false, Init{}, 2)
	if _, err := b.Model("m", nil); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Error(err)
	}
}

func TestAllWeightsZeroIsNoLoss(t *testing.T) {
	b := New(Training, nil)
	x := b.Param("x", false, Init{}, 2, 3)
	loss := b.CrossEntropy(x, b.Input("t", 2, 3), b.Input("w", 2))
	b.Output("loss", loss)
	b.Backward(loss)
	b.Output("grad", b.Gradient(x))
	data := safetensors.Tensor{Shape: []int{2, 3}, Data: []float32{1, 0, 0, 0, 1, 0}}
	got := run(t, b, map[string]*onnx.Tensor{"x": tensor(t, data), "t": tensor(t, data), "w": constantTensor(t, 0, []int{2})})
	if got["loss"][0] != 0 {
		t.Errorf("loss %v, want 0", got["loss"])
	}
	for _, g := range got["grad"] {
		if g != 0 {
			t.Errorf("gradient %v, want zeros", got["grad"])
		}
	}
}

func TestModelIsDeterministic(t *testing.T) {
	build := func() []byte {
		b := New(Training, nil)
		x := b.Conv(b.Input("x", 2, 3, 4, 4), b.Param("w", true, Init{}, 4, 3, 3, 3), 1)
		loss := b.CrossEntropy(b.GlobalMaxPool(b.Relu(b.BatchNorm(x, "bn"))), b.Input("t", 2, 4), nil)
		b.Output("loss", loss)
		b.Backward(loss)
		b.Update(SGD{Momentum: 0.9, ClipNorm: 1}, b.Input("rate", 1))
		m, err := b.Model("m", map[string]string{"b": "2", "a": "1"})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if !bytes.Equal(build(), build()) {
		t.Error("two equal graphs give different bytes")
	}
}
