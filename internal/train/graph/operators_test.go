package graph

import (
	"context"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/train/safetensors"
)

type inputs map[string]*Tensor

// operators builds, for every recorded case, the operator under test.
var operators = map[string]func(b *Builder, in inputs) *Tensor{
	"conv3_stacks":          func(b *Builder, in inputs) *Tensor { return b.Conv(in["x"], in["w"], 1) },
	"conv3_unrolled":        func(b *Builder, in inputs) *Tensor { return b.Conv(in["x"], in["w"], 1) },
	"conv3_small_maps":      func(b *Builder, in inputs) *Tensor { return b.Conv(in["x"], in["w"], 1) },
	"conv3_stride2":         func(b *Builder, in inputs) *Tensor { return b.Conv(in["x"], in["w"], 2) },
	"conv1":                 func(b *Builder, in inputs) *Tensor { return b.Conv(in["x"], in["w"], 1) },
	"conv1_stride2":         func(b *Builder, in inputs) *Tensor { return b.Conv(in["x"], in["w"], 2) },
	"conv1_small_maps":      func(b *Builder, in inputs) *Tensor { return b.Conv(in["x"], in["w"], 1) },
	"conv7_stride2":         func(b *Builder, in inputs) *Tensor { return b.Conv(in["x"], in["w"], 2) },
	"maxpool3":              func(b *Builder, in inputs) *Tensor { return b.MaxPool3(in["x"]) },
	"maxpool3_ties":         func(b *Builder, in inputs) *Tensor { return b.MaxPool3(in["x"]) },
	"average":               func(b *Builder, in inputs) *Tensor { return b.AveragePool(in["x"]) },
	"relu":                  func(b *Builder, in inputs) *Tensor { return b.Relu(in["x"]) },
	"add":                   func(b *Builder, in inputs) *Tensor { return b.Add(in["x"], in["z"]) },
	"add_itself":            func(b *Builder, in inputs) *Tensor { return b.Add(in["x"], in["x"]) },
	"scale":                 func(b *Builder, in inputs) *Tensor { return b.Scale(in["x"], 0.125) },
	"maxpool":               func(b *Builder, in inputs) *Tensor { return b.MaxPool(in["x"]) },
	"maxpool_ties":          func(b *Builder, in inputs) *Tensor { return b.MaxPool(in["x"]) },
	"global_average":        func(b *Builder, in inputs) *Tensor { return b.GlobalAveragePool(in["x"]) },
	"global_max":            func(b *Builder, in inputs) *Tensor { return b.GlobalMaxPool(in["x"]) },
	"global_max_ties":       func(b *Builder, in inputs) *Tensor { return b.GlobalMaxPool(in["x"]) },
	"linear":                func(b *Builder, in inputs) *Tensor { return b.Linear(in["x"], in["w"], in["b"]) },
	"linear_no_bias":        func(b *Builder, in inputs) *Tensor { return b.Linear(in["x"], in["w"], nil) },
	"normalize":             func(b *Builder, in inputs) *Tensor { return b.Normalize(in["x"]) },
	"rows":                  func(b *Builder, in inputs) *Tensor { return b.Rows(in["x"], 1, 4) },
	"logsumexp":             func(b *Builder, in inputs) *Tensor { return b.LogSumExp(in["x"]) },
	"cross_entropy":         func(b *Builder, in inputs) *Tensor { return b.CrossEntropy(in["x"], in["t"], nil) },
	"cross_entropy_weights": func(b *Builder, in inputs) *Tensor { return b.CrossEntropy(in["x"], in["t"], in["w"]) },
	"columns":               func(b *Builder, in inputs) *Tensor { return b.Columns(in["x"], in["z"]) },
	"times":                 func(b *Builder, in inputs) *Tensor { return b.Times(in["x"], in["f"]) },
	"ratio":                 func(b *Builder, in inputs) *Tensor { return b.Ratio(in["x"], in["z"]) },
	"weighted_logsumexp":    func(b *Builder, in inputs) *Tensor { return b.WeightedLogSumExp(in["x"], in["w"]) },
	"batchnorm":             func(b *Builder, in inputs) *Tensor { return b.BatchNorm(in["x"], "bn") },
	"standardize": func(b *Builder, in inputs) *Tensor {
		return b.Standardize(in["x"], []float32{.5, .4, .3}, []float32{.2, .25, .5})
	},
}

// TestOperators compares every operator's value and gradients with what PyTorch
// computes in float64 (tools/vectors/train.py). 2e-6 relative to the norm allows
// for the rounding of float32 in sums of some hundred terms.
func TestOperators(t *testing.T) {
	recorded := load(t, "testdata/operators.safetensors")
	cases := map[string]map[string]safetensors.Tensor{}
	for key, v := range recorded {
		name, rest, _ := strings.Cut(key, "/")
		if cases[name] == nil {
			cases[name] = map[string]safetensors.Tensor{}
		}
		cases[name][rest] = v
	}
	for name := range operators {
		if cases[name] == nil {
			t.Errorf("%s is not recorded", name)
		}
	}
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			const limit = 2e-6
			got := runOperator(t, operators[name], values)
			for key, want := range values {
				if strings.HasPrefix(key, "in/") || key == "dy" {
					continue
				}
				if e := relative(got[key], want.Data); !(e <= limit) {
					t.Errorf("%s: relative error %.2g, want at most %.0e\n got %v\nwant %v", key, e, limit, got[key], want.Data)
				}
			}
		})
	}
}

// runOperator builds one operator in training mode, feeds the recorded gradient
// of its result and returns the result and the gradients.
func runOperator(t *testing.T, build func(*Builder, inputs) *Tensor, values map[string]safetensors.Tensor) map[string][]float32 {
	t.Helper()
	b, in, feed := New(Training, nil), inputs{}, map[string]*onnx.Tensor{}
	for key, v := range values {
		name, isInput := strings.CutPrefix(key, "in/")
		if !isInput {
			continue
		}
		feed[name] = tensor(t, v)
		if _, ok := values["grad/"+name]; !ok {
			in[name] = b.Input(name, v.Shape...)
		} else if !strings.Contains(name, ".") { // batch normalisation declares its own
			in[name] = b.Param(name, true, Init{}, v.Shape...)
		}
	}
	y := build(b, in)
	if !slices.Equal(y.Shape(), values["y"].Shape) {
		t.Fatalf("shape %v, want %v", y.Shape(), values["y"].Shape)
	}
	b.Output("y", y)
	b.accumulate(y, b.Const(y.Shape(), values["dy"].Data...))
	b.propagate()
	for _, p := range b.params {
		b.Output("grad/"+p.tensor.name, b.Gradient(p.tensor))
	}
	for _, s := range b.Slots() {
		if feed[s.Name] == nil {
			feed[s.Name] = constantTensor(t, s.Init.Scale, s.Shape)
		}
	}
	return run(t, b, feed)
}

func run(t *testing.T, b *Builder, feed map[string]*onnx.Tensor) map[string][]float32 {
	t.Helper()
	model, err := b.Model("test", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := onnx.NewSession(model, onnx.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(context.Background(), feed)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]float32{}
	for name, v := range out {
		got[name] = slices.Clone(v.Float32())
		v.Close()
	}
	for v := range maps.Values(feed) {
		v.Close()
	}
	return got
}

func tensor(t *testing.T, v safetensors.Tensor) *onnx.Tensor {
	t.Helper()
	x, err := onnx.NewFloat32(v.Data, dims(v.Shape)...)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func constantTensor(t *testing.T, v float64, shape []int) *onnx.Tensor {
	t.Helper()
	data := make([]float32, size(shape))
	for i := range data {
		data[i] = float32(v)
	}
	return tensor(t, safetensors.Tensor{Shape: shape, Data: data})
}

func load(t *testing.T, path string) map[string]safetensors.Tensor {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := safetensors.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return file.Tensors
}

// relative is ‖got − want‖ / ‖want‖.
func relative(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		diff += d * d
		norm += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(diff / (norm + 1e-30))
}
