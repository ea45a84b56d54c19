package onnx_test

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// ownOperator is a model of one operator of another domain than ONNX's.
func ownOperator(t *testing.T, domain, op string, output *onnxpb.ValueInfoProto, inputs []*onnxpb.ValueInfoProto, attrs ...*onnxpb.AttributeProto) []byte {
	t.Helper()
	node := onnxpb.Node(op, nil, []string{output.Name}, attrs...)
	node.Domain, node.Name = domain, "the_node"
	for _, in := range inputs {
		node.Input = append(node.Input, in.Name)
	}
	m := onnxpb.Model(&onnxpb.GraphProto{Name: "g", Input: inputs, Node: []*onnxpb.NodeProto{node}, Output: []*onnxpb.ValueInfoProto{output}}, 0)
	m.OpsetImport = append(m.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: domain, Version: 1})
	data, err := onnxpb.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestOperatorsOfTheOptimiser: ONNX Runtime's own operators load where the CPU
// provider has them; where it has not, the error names operator and provider.
func TestOperatorsOfTheOptimiser(t *testing.T) {
	f32 := func(name string, dims ...any) *onnxpb.ValueInfoProto {
		return onnxpb.Value(name, onnxpb.TensorProto_FLOAT, dims...)
	}
	s, err := onnx.NewSession(ownOperator(t, "com.microsoft", "BiasGelu", f32("y", 1, 3), []*onnxpb.ValueInfoProto{f32("x", 1, 3), f32("b", 3)}), onnx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": floats(t, []float32{0, 1, -1}, 1, 3), "b": floats(t, []float32{0, 1, 0}, 3)})
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range []float64{0, 2, -1} {
		if got, want := float64(out["y"].Float32()[i]), x/2*(1+math.Erf(x/math.Sqrt2)); math.Abs(got-want) > 1e-6 {
			t.Errorf("BiasGelu of %v is %v, want %v", x, got, want)
		}
	}
	_, err = onnx.NewSession(ownOperator(t, "com.microsoft", "GroupNorm", f32("y", 1, 2, 2, 4),
		[]*onnxpb.ValueInfoProto{f32("x", 1, 2, 2, 4), f32("g", 4), f32("b", 4)}, onnxpb.AttrInt("activation", 1), onnxpb.AttrInt("groups", 2)), onnx.Config{})
	t.Log(err)
	if !errors.Is(err, onnx.ErrNoKernel) || !strings.Contains(err.Error(), "com.microsoft:GroupNorm on the provider cpu") {
		t.Errorf("GroupNorm: %v", err)
	}
	for domain, op := range map[string]string{"evil.ops": "RunShell", "com.microsoft": "EPContext"} {
		_, err := onnx.NewSession(ownOperator(t, domain, op, f32("y", 1), []*onnxpb.ValueInfoProto{f32("x", 1)}), onnx.Config{})
		if err == nil || !strings.Contains(err.Error(), domain) || !strings.Contains(err.Error(), op) {
			t.Errorf("%s:%s: %v", domain, op, err)
		}
	}
}

// TestVet finds a NaN in every type and place, and takes infinities, which
// masks hold.
func TestVet(t *testing.T) {
	nan := float32(math.NaN())
	inf := float32(math.Inf(-1))
	half := func(bits ...uint16) (raw []byte) {
		for _, b := range bits {
			raw = binary.LittleEndian.AppendUint16(raw, b)
		}
		return raw
	}
	for name, c := range map[string]struct {
		w    *onnxpb.TensorProto
		file []byte
		want string
	}{
		"honest":     {w: onnxpb.Float32s("w", []float32{1, inf, 3}, 3)},
		"raw":        {w: onnxpb.Float32s("w", []float32{1, inf, nan}, 3), want: `tensor "w": element 2 is not a number`},
		"list":       {w: &onnxpb.TensorProto{Name: "w", DataType: 1, Dims: []int64{2}, FloatData: []float32{nan, 1}}, want: "element 0"},
		"double":     {w: &onnxpb.TensorProto{Name: "w", DataType: 11, Dims: []int64{2}, DoubleData: []float64{1, math.NaN()}}, want: "element 1"},
		"half":       {w: &onnxpb.TensorProto{Name: "w", DataType: 10, Dims: []int64{2}, RawData: half(0xfc00, 0xfe00)}, want: "element 1"},
		"half list":  {w: &onnxpb.TensorProto{Name: "w", DataType: 10, Dims: []int64{2}, Int32Data: []int32{0x7c00, 0x7c01}}, want: "element 1"},
		"bfloat16":   {w: &onnxpb.TensorProto{Name: "w", DataType: 16, Dims: []int64{2}, RawData: half(0x7f80, 0xffc0)}, want: "element 1"},
		"integers":   {w: onnxpb.Int64s("w", []int64{-1}, 1)},
		"outside":    {w: &onnxpb.TensorProto{Name: "w", DataType: 10, Dims: []int64{3}, DataLocation: 1}, file: half(1, 0xfc00, 2)},
		"far inside": {w: &onnxpb.TensorProto{Name: "w", DataType: 10, Dims: []int64{1 << 20}, DataLocation: 1}, file: append(make([]byte, 2<<20-2), 0xff, 0x7f), want: "element 1048575"},
		"cut file":   {w: &onnxpb.TensorProto{Name: "w", DataType: 10, Dims: []int64{3}, DataLocation: 1}, file: half(1, 2), want: "beyond the end"},
	} {
		dir := t.TempDir()
		if c.file != nil {
			c.w.ExternalData = []*onnxpb.StringStringEntryProto{{Key: "location", Value: "w.bin"}}
			if err := os.WriteFile(filepath.Join(dir, "w.bin"), c.file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		data, err := onnxpb.Marshal(onnxpb.Model(&onnxpb.GraphProto{Name: "g", Initializer: []*onnxpb.TensorProto{c.w}}, 0))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "model.onnx"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = onnx.Vet(filepath.Join(dir, "model.onnx"))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "model.onnx")) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestReadModelBoundsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 5<<40); err != nil { // a file with a hole
		t.Skip(err)
	}
	if _, err := onnx.NewSessionFile(path, onnx.Config{}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a file of 5 TiB: %v", err)
	}
	if _, err := onnx.ReadModel(t.TempDir()); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a folder: %v", err)
	}
}
