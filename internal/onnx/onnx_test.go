package onnx_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

func serialise(t *testing.T, graph *onnxpb.GraphProto) []byte {
	t.Helper()
	m := onnxpb.Model(graph, 0)
	m.MetadataProps = []*onnxpb.StringStringEntryProto{{Key: "classes", Value: "cat,dog"}}
	data, err := onnxpb.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// affine computes y = x·w + b of x [batch, 3] and the scalar mean of y.
func affine() *onnxpb.GraphProto {
	return &onnxpb.GraphProto{
		Name:   "affine",
		Input:  []*onnxpb.ValueInfoProto{onnxpb.Value("x", onnxpb.TensorProto_FLOAT, "batch", 3)},
		Output: []*onnxpb.ValueInfoProto{onnxpb.Value("y", onnxpb.TensorProto_FLOAT, "batch", 2), onnxpb.Value("mean", onnxpb.TensorProto_FLOAT)},
		Initializer: []*onnxpb.TensorProto{
			onnxpb.Float32s("w", []float32{1, 0, 0, 1, 1, 1}, 3, 2),
			onnxpb.Float32s("b", []float32{10, 20}, 2),
		},
		Node: []*onnxpb.NodeProto{
			onnxpb.Node("MatMul", []string{"x", "w"}, []string{"xw"}),
			onnxpb.Node("Add", []string{"xw", "b"}, []string{"y"}),
			onnxpb.Node("ReduceMean", []string{"y"}, []string{"mean"}, onnxpb.AttrInt("keepdims", 0)),
		},
	}
}

func session(t *testing.T, graph *onnxpb.GraphProto) *onnx.Session {
	t.Helper()
	s, err := onnx.NewSession(serialise(t, graph), onnx.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func floats(t *testing.T, data []float32, shape ...int64) *onnx.Tensor {
	t.Helper()
	x, err := onnx.NewFloat32(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func TestRunDynamicShapes(t *testing.T) {
	s := session(t, affine())
	if got := fmt.Sprint(s.Inputs(), s.Outputs()); got != `["x" float32[batch 3]] ["y" float32[batch 2] "mean" float32[]]` {
		t.Errorf("described as %s", got)
	}
	if s.Metadata()["classes"] != "cat,dog" {
		t.Errorf("metadata %v", s.Metadata())
	}
	for batch := int64(0); batch < 4; batch++ {
		x := make([]float32, 3*batch)
		want := make([]float32, 2*batch)
		for i := range batch {
			x[3*i], x[3*i+1], x[3*i+2] = float32(i), 1, 2
			want[2*i], want[2*i+1] = float32(i)+12, 23
		}
		out, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": floats(t, x, batch, 3)})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, out["y"].Float32()); diff != "" {
			t.Errorf("batch %d: %s", batch, diff)
		}
		if diff := cmp.Diff([]int64{batch, 2}, out["y"].Shape()); diff != "" {
			t.Error(diff)
		}
		if batch == 1 && (out["mean"].Float32()[0] != 17.5 || len(out["mean"].Shape()) != 0) {
			t.Errorf("mean %v of shape %v, want scalar 17.5", out["mean"].Float32(), out["mean"].Shape())
		}
		out["y"].Close()
		out["mean"].Close()
	}
}

func TestRunNamedOutputs(t *testing.T) {
	s := session(t, affine())
	in := map[string]*onnx.Tensor{"x": floats(t, []float32{1, 2, 3}, 1, 3)}
	out, err := s.Run(t.Context(), in, "mean")
	if err != nil || len(out) != 1 || out["mean"] == nil {
		t.Fatalf("got %v, %v", out, err)
	}
	if _, err := s.Run(t.Context(), in, "z"); err == nil || !strings.Contains(err.Error(), `no output "z"`) {
		t.Errorf("got %v", err)
	}
}

func TestRunIntoReusesMemory(t *testing.T) {
	s := session(t, affine())
	x, y := []float32{1, 2, 3}, make([]float32, 2)
	in := map[string]*onnx.Tensor{"x": floats(t, x, 1, 3)}
	mean, err := onnx.EmptyFloat32()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*onnx.Tensor{"y": floats(t, y, 1, 2), "mean": mean}
	for range 2 {
		x[0]++
		if err := s.RunInto(t.Context(), in, out); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]float32{16, 25}, y); diff != "" {
		t.Error(diff)
	}
	if mean.Float32()[0] != 20.5 {
		t.Errorf("mean %v", mean.Float32())
	}
}

func TestWrongInputsSaySo(t *testing.T) {
	s := session(t, affine())
	ints, err := onnx.NewInt64([]int64{1, 2, 3}, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	closed := floats(t, []float32{1, 2, 3}, 1, 3)
	closed.Close()
	for name, c := range map[string]struct {
		in   map[string]*onnx.Tensor
		want []string
	}{
		"name":   {map[string]*onnx.Tensor{"X": floats(t, []float32{1, 2, 3}, 1, 3)}, []string{`input "x" float32[batch 3] is missing`, `no input "X"`}},
		"shape":  {map[string]*onnx.Tensor{"x": floats(t, []float32{1, 2}, 1, 2)}, []string{`want "x" float32[batch 3], got float32[1 2]`}},
		"rank":   {map[string]*onnx.Tensor{"x": floats(t, []float32{1, 2, 3}, 3)}, []string{`got float32[3]`}},
		"dtype":  {map[string]*onnx.Tensor{"x": ints}, []string{`got int64[1 3]`}},
		"closed": {map[string]*onnx.Tensor{"x": closed}, []string{`closed tensor`}},
	} {
		_, err := s.Run(t.Context(), c.in)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", name, err, want)
			}
		}
	}
	if _, err := onnx.NewFloat32([]float32{1}, 2); err == nil {
		t.Error("a tensor with too few elements was made")
	}
	if _, err := onnx.EmptyFloat32(1<<40, 1<<40); err == nil {
		t.Error("an absurd shape was accepted")
	}
}

// slow is a chain of matrix products that takes seconds.
func slow() *onnxpb.GraphProto {
	g := &onnxpb.GraphProto{
		Name:   "slow",
		Input:  []*onnxpb.ValueInfoProto{onnxpb.Value("x0", onnxpb.TensorProto_FLOAT, 256, 256)},
		Output: []*onnxpb.ValueInfoProto{onnxpb.Value("x3000", onnxpb.TensorProto_FLOAT, 256, 256)},
	}
	for i := range 3000 {
		g.Node = append(g.Node, onnxpb.Node("MatMul",
			[]string{fmt.Sprintf("x%d", i), "x0"}, []string{fmt.Sprintf("x%d", i+1)}))
	}
	return g
}

func TestCancelTerminatesTheRun(t *testing.T) {
	s := session(t, slow())
	in := map[string]*onnx.Tensor{"x0": floats(t, make([]float32, 256*256), 256, 256)}
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(50*time.Millisecond, cancel)
	defer timer.Stop()
	start := time.Now()
	_, err := s.Run(ctx, in)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v after %v, want context.Canceled", err, time.Since(start))
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("the run ended %v after its start", took)
	}
	if _, err := s.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context ran: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Run(t.Context(), in); !errors.Is(err, onnx.ErrClosed) {
		t.Errorf("a closed session ran: %v", err)
	}
}

func TestConcurrentRuns(t *testing.T) {
	s := session(t, affine())
	var group sync.WaitGroup
	for g := range 2 {
		group.Go(func() {
			for i := range 200 {
				x, err := onnx.NewFloat32([]float32{float32(g), float32(i), 0}, 1, 3)
				if err != nil {
					t.Error(err)
					return
				}
				out, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": x}, "y")
				if err != nil {
					t.Error(err)
					return
				}
				if diff := cmp.Diff([]float32{float32(g) + 10, float32(i) + 20}, out["y"].Float32()); diff != "" {
					t.Error(diff)
				}
				out["y"].Close()
				x.Close()
			}
		})
	}
	group.Wait()
}

// TestTypes sends every supported type through Identity; the 16-bit floats
// have an output of dynamic shape that the session resolves by name.
func TestTypes(t *testing.T) {
	for _, dtype := range []onnx.DType{onnx.Float32, onnx.Float64, onnx.Float16, onnx.BFloat16, onnx.Int64, onnx.Int32, onnx.Uint8, onnx.Bool} {
		kind := onnxpb.TensorProto_DataType(dtype)
		s := session(t, &onnxpb.GraphProto{
			Name:   "identity",
			Input:  []*onnxpb.ValueInfoProto{onnxpb.Value("x", kind, "n")},
			Output: []*onnxpb.ValueInfoProto{onnxpb.Value("y", kind, "n")},
			Node:   []*onnxpb.NodeProto{onnxpb.Node("Identity", []string{"x"}, []string{"y"})},
		})
		x, err := onnx.Empty(dtype, 3)
		if err != nil {
			t.Fatal(err)
		}
		if y, err := onnx.FromFloats(dtype, []float32{0.5, -2, 1024}, 3); err == nil {
			x = y
		} else if dtype == onnx.Bool {
			x.Bool()[1] = true
		}
		out, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": x})
		if err != nil {
			t.Errorf("%v: %v", dtype, err)
			continue
		}
		y := out["y"]
		if f, err := y.Floats(); err == nil {
			if diff := cmp.Diff([]float32{0.5, -2, 1024}, f); diff != "" {
				t.Errorf("%v: %s", dtype, diff)
			}
		} else if dtype == onnx.Bool && !cmp.Equal([]bool{false, true, false}, y.Bool()) {
			t.Errorf("bool: %v", y.Bool())
		}
		y.Close()
		x.Close()
	}
}

func TestLoadErrors(t *testing.T) {
	_, err := onnx.NewSession([]byte("not a model"), onnx.Config{})
	if err == nil {
		t.Error("nonsense was loaded")
	}
	_, err = onnx.NewSession(nil, onnx.Config{Provider: "tpu", Threads: -1, Precision: "int8"})
	for _, want := range []string{`provider "tpu"`, "threads -1", `precision "int8"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "none.onnx")
	if _, err = onnx.NewSessionFile(path, onnx.Config{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if err := onnx.Open("/elsewhere/libonnxruntime.so"); err == nil {
		t.Error("a second library was opened")
	}
}

func TestLibrary(t *testing.T) {
	if v := onnx.Version(); !strings.HasPrefix(v, "1.") {
		t.Errorf("version %q", v)
	}
	if p := onnx.Providers(); len(p) == 0 || p[0] != "cpu" {
		t.Errorf("providers %v", p)
	}
}

func TestOpenVINO(t *testing.T) {
	if !strings.Contains(fmt.Sprint(onnx.Providers()), "openvino") {
		t.Skip("this ONNX Runtime has no OpenVINO provider")
	}
	for _, cfg := range []onnx.Config{
		{Provider: "openvino"},
		{Provider: "openvino", Precision: "bf16", Threads: 1, Shapes: map[string][]int64{"x": {1, 3}}},
	} {
		g := affine()
		g.Output = g.Output[:1]
		g.Node = g.Node[:2]
		s, err := onnx.NewSession(serialise(t, g), cfg)
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": floats(t, []float32{1, 2, 4}, 1, 3)})
		if err != nil {
			t.Fatal(err)
		}
		// 15 and 26 are exact in bf16.
		if diff := cmp.Diff([]float32{15, 26}, out["y"].Float32()); diff != "" {
			t.Errorf("%+v: %s", cfg, diff)
		}
		out["y"].Close()
		s.Close()
	}
}
