package onnxpb

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// message is a delimited field.
func message(num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

func modelOf(graph []byte) []byte { return message(7, graph) }

// function is an operator of the model itself that calls others.
func function(domain, name string, calls ...Operator) []byte {
	v := slices.Concat(message(1, []byte(name)), message(10, []byte(domain)))
	for _, c := range calls {
		v = append(v, message(7, slices.Concat(message(4, []byte(c.Type)), message(7, []byte(c.Domain))))...)
	}
	return message(25, v)
}

func graphOf(t *testing.T, g *GraphProto) []byte {
	t.Helper()
	data, err := proto.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHostileModels(t *testing.T) {
	relu := graphOf(t, &GraphProto{Node: []*NodeProto{Node("Relu", []string{"x"}, []string{"y"})}})
	stored := func(w *TensorProto) []byte { return modelOf(graphOf(t, &GraphProto{Initializer: []*TensorProto{w}})) }
	shaped := func(op string, dims ...int64) []byte {
		return modelOf(graphOf(t, &GraphProto{
			Node:        []*NodeProto{Node(op, []string{"shape", "shape"}, []string{"y"})},
			Initializer: []*TensorProto{Int64s("shape", dims, int64(len(dims)))},
		}))
	}
	nested := &GraphProto{}
	for range maxDepth + 1 {
		nested = &GraphProto{Node: []*NodeProto{{OpType: "If", Name: "deep", Attribute: []*AttributeProto{AttrGraph("then_branch", nested)}}}}
	}
	var laughs []byte
	for i := range 30 {
		next := Operator{"own", fmt.Sprint("f", i+1)}
		laughs = append(laughs, function("own", fmt.Sprint("f", i), next, next)...)
	}
	constant := Node("Constant", nil, []string{"shape"}, AttrInts("value_ints", 1<<20, 1<<20))
	one, err := proto.Marshal(Float32s("", []float32{1}, 1))
	if err != nil {
		t.Fatal(err)
	}
	twice := slices.Concat(message(1, []byte("value")), message(5, one), message(5, one))
	for name, c := range map[string]struct {
		model []byte
		want  string
	}{
		"empty":             {nil, "holds no graph"},
		"no graph":          {message(6, []byte("hello")), "holds no graph"},
		"ORT format":        {[]byte("\x3a\x02ORORTM"), "ORT format"},
		"two graphs":        {slices.Concat(modelOf(relu), modelOf(relu)), "twice"},
		"two values":        {modelOf(message(1, message(5, twice))), "twice"},
		"too short":         {stored(&TensorProto{Name: "w", DataType: 1, Dims: []int64{3}, RawData: make([]byte, 8)}), `"w": shape [3] of FLOAT needs 12 bytes, 8 are stored`},
		"too long":          {stored(&TensorProto{Name: "w", DataType: 10, Dims: []int64{3}, RawData: make([]byte, 8)}), "needs 6 bytes"},
		"no data":           {stored(&TensorProto{Name: "w", DataType: 1, Dims: []int64{1 << 30}}), "1073741824 elements, 0 are stored"},
		"terabytes":         {stored(&TensorProto{Name: "w", DataType: 1, Dims: []int64{1 << 40, 1 << 40}}), "more than"},
		"overflow":          {stored(&TensorProto{Name: "w", DataType: 1, Dims: []int64{math.MaxInt64, 3, math.MaxInt64}}), "more than"},
		"negative":          {stored(&TensorProto{Name: "w", DataType: 1, Dims: []int64{-1, 3}}), "negative"},
		"many dimensions":   {stored(&TensorProto{Name: "w", DataType: 1, Dims: slices.Repeat([]int64{1}, 65)}), "64 dimensions"},
		"unknown type":      {stored(&TensorProto{Name: "w", DataType: 99, Dims: []int64{1}}), "unknown type 99"},
		"few numbers":       {stored(&TensorProto{Name: "w", DataType: 1, Dims: []int64{3}, FloatData: []float32{1}}), "1 are stored"},
		"nowhere":           {stored(&TensorProto{Name: "w", DataType: 1, DataLocation: TensorProto_EXTERNAL}), "no location"},
		"two places":        {stored(&TensorProto{Name: "w", DataType: 1, ExternalData: []*StringStringEntryProto{{Key: "location", Value: "a"}, {Key: "location", Value: "../b"}}}), "twice"},
		"deep":              {modelOf(graphOf(t, nested)), "nested deeper"},
		"absurd fill":       {shaped("ConstantOfShape", 1<<31, 1<<31), `(ConstantOfShape) makes a tensor`},
		"absurd expansion":  {shaped("Expand", 1, 1<<20, 1<<20), "(Expand) makes"},
		"absurd tiling":     {shaped("Tile", 1<<62, 4), "(Tile) makes"},
		"a constant shape":  {modelOf(graphOf(t, &GraphProto{Node: []*NodeProto{constant, Node("ConstantOfShape", []string{"shape"}, []string{"y"})}})), "makes a tensor"},
		"calls itself":      {slices.Concat(modelOf(relu), function("own", "f", Operator{"own", "g"}), function("own", "g", Operator{"own", "f"})), "calls itself"},
		"billion laughs":    {slices.Concat(modelOf(relu), laughs), "more than"},
		"function twice":    {slices.Concat(modelOf(relu), function("own", "f"), function("own", "f")), "that of another one"},
		"wire type":         {[]byte{0x3f}, "parse"},
		"length beyond end": {[]byte{0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f}, "parse"},
	} {
		_, err := Inspect(c.model)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestHonestModels: what exporters write passes.
func TestHonestModels(t *testing.T) {
	g := &GraphProto{
		Node: []*NodeProto{
			Node("ConstantOfShape", []string{"shape"}, []string{"y"}, AttrTensor("value", Float32s("", []float32{1}, 1))),
			Node("Expand", []string{"y", "two"}, []string{"z"}),
			{OpType: "Twice", Domain: "own", Input: []string{"z"}, Output: []string{"u"}},
			{OpType: "BiasGelu", Domain: "com.microsoft", Input: []string{"u", "b"}, Output: []string{"v"}},
			{OpType: "Relu", Domain: "ai.onnx", Input: []string{"v"}, Output: []string{"w"}},
		},
		Initializer: []*TensorProto{
			Int64s("shape", []int64{2, 1024}, 2), {Name: "two", DataType: 7, Dims: []int64{2}, Int64Data: []int64{-1, 1024}},
			{Name: "empty", DataType: 1, Dims: []int64{0}}, {Name: "scalar", DataType: 1, FloatData: []float32{3}},
			{Name: "half", DataType: 10, Dims: []int64{2}, Int32Data: []int32{0x3c00, 0x7c00}},
			{Name: "text", DataType: 8, Dims: []int64{2}, StringData: [][]byte{nil, []byte("x")}},
			{Name: "double", DataType: 11, Dims: []int64{1}, DoubleData: []float64{7}},
			{Name: "four bits", DataType: 22, Dims: []int64{3}, RawData: []byte{1, 2}},
		},
	}
	data := slices.Concat(modelOf(graphOf(t, g)), function("own", "Twice", Operator{"", "Add"}))
	info, err := Inspect(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(info.Operators); got != "[Add ConstantOfShape Expand Relu com.microsoft:BiasGelu]" {
		t.Errorf("operators %s", got)
	}
	for _, s := range info.Stored {
		if s.Tensor == "half" && !slices.Equal(s.Raw, []byte{0, 0x3c, 0, 0x7c}) {
			t.Errorf("half is stored as %v", s.Raw)
		}
	}
}

// FuzzInspect: no input makes the walker panic or take memory out of
// proportion, and what it takes for a model, the parser takes as well, with
// the same operators in its graph.
func FuzzInspect(f *testing.F) {
	add := func(g *GraphProto, more ...[]byte) {
		data, err := proto.Marshal(g)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(slices.Concat(append([][]byte{modelOf(data)}, more...)...))
	}
	add(&GraphProto{Input: []*ValueInfoProto{Value("x", TensorProto_FLOAT, "n")}})
	add(&GraphProto{Node: []*NodeProto{Node("If", nil, []string{"y"}, AttrGraph("then_branch", &GraphProto{Initializer: []*TensorProto{Float32s("w", []float32{1}, 1)}}))}})
	add(&GraphProto{Initializer: []*TensorProto{{Name: "w", DataType: 10, Dims: []int64{2}, Int32Data: []int32{1, 2}},
		{Name: "e", DataType: 1, Dims: []int64{4}, DataLocation: 1, ExternalData: []*StringStringEntryProto{{Key: "location", Value: "w.bin"}, {Key: "length", Value: "16"}}}}})
	add(&GraphProto{Node: []*NodeProto{Node("ConstantOfShape", []string{"s"}, []string{"y"})}, Initializer: []*TensorProto{Int64s("s", []int64{1 << 20, 1 << 40}, 2)}},
		function("own", "f", Operator{"own", "g"}), function("own", "g", Operator{"", "Relu"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Inspect(data)
		if err != nil {
			return
		}
		m, err := Unmarshal(data)
		if err != nil {
			return // text that is not UTF-8, which the walker does not look at
		}
		for _, n := range m.Graph.Node {
			op := Operator{domain(n.Domain), n.OpType}
			if info.calls[op] == nil && !slices.Contains(info.Operators, op) {
				t.Errorf("operator %s was not seen", op)
			}
		}
		for _, w := range m.Graph.Initializer {
			if _, err := Elements(w.Dims); err != nil {
				t.Errorf("tensor %q: %v", w.Name, err)
			}
		}
	})
}
