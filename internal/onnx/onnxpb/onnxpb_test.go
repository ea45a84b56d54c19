package onnxpb

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func TestFloats(t *testing.T) {
	want := []float32{0, 1, -2.5, 65504}
	half := &TensorProto{Name: "h", Dims: []int64{2, 2}, DataType: int32(TensorProto_FLOAT16)}
	rawHalf := proto.CloneOf(half)
	for _, v := range want {
		h := Float32ToHalf(v)
		half.Int32Data = append(half.Int32Data, int32(h))
		rawHalf.RawData = append(rawHalf.RawData, byte(h), byte(h>>8))
	}
	for name, tensor := range map[string]*TensorProto{
		"raw float":  Float32s("f", want, 2, 2),
		"float_data": {Dims: []int64{4}, DataType: int32(TensorProto_FLOAT), FloatData: want},
		"double":     {Dims: []int64{4}, DataType: int32(TensorProto_DOUBLE), DoubleData: []float64{0, 1, -2.5, 65504}},
		"half":       half,
		"raw half":   rawHalf,
	} {
		got, err := Floats(tensor)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, tensor := range map[string]*TensorProto{
		"integers": Int64s("i", []int64{1}, 1),
		"short":    Float32s("f", want, 3, 2),
		"absurd":   Float32s("f", want, 1<<40, 1<<40),
		"negative": Float32s("f", want, -2, -2),
	} {
		if _, err := Floats(tensor); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestHalf walks through all 65,536 half-precision numbers: widening and
// rounding is the identity, and the middle of two neighbours rounds to even.
func TestHalf(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f := HalfToFloat32(h)
		if math.IsNaN(float64(f)) {
			if !math.IsNaN(float64(HalfToFloat32(Float32ToHalf(f)))) {
				t.Fatalf("NaN %#x became a number", h)
			}
			continue
		}
		if back := Float32ToHalf(f); back != h {
			t.Fatalf("%#x widens to %v and rounds to %#x", h, f, back)
		}
		if next := h + 1; h&0x7fff < 0x7bff {
			middle := (f + HalfToFloat32(next)) / 2
			if got, even := Float32ToHalf(middle), h+h&1; got != even {
				t.Fatalf("the middle of %#x and %#x rounds to %#x", h, next, got)
			}
		}
	}
	if Float32ToHalf(65520) != 0x7c00 || Float32ToHalf(65519) != 0x7bff {
		t.Error("numbers above 65504 do not round as IEEE 754 says")
	}
	if BFloat16ToFloat32(Float32ToBFloat16(1.00390625)) != 1 || Float32ToBFloat16(1) != 0x3f80 {
		t.Error("bfloat16 does not round to even")
	}
}

// TestUnknownFields: what the subset does not name survives a round trip.
func TestUnknownFields(t *testing.T) {
	m := Model(&GraphProto{Name: "g", Node: []*NodeProto{Node("Relu", []string{"x"}, []string{"y"})}}, 0)
	extra := protowire.AppendString(protowire.AppendTag(nil, 8, protowire.BytesType), "overload") // NodeProto.overload
	m.Graph.Node[0].ProtoReflect().SetUnknown(extra)
	data, err := Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Unmarshal(data)
	if err != nil || !proto.Equal(m, back) {
		t.Errorf("%v: %v", err, back)
	}
}

func TestInspect(t *testing.T) {
	hidden := &TensorProto{Name: "hidden", DataType: 1, DataLocation: TensorProto_EXTERNAL,
		ExternalData: []*StringStringEntryProto{{Key: "location", Value: "../x"}}}
	body := &GraphProto{Node: []*NodeProto{Node("Constant", nil, []string{"c"}, AttrTensor("value", hidden))}}
	data, err := Marshal(Model(&GraphProto{
		Input:       []*ValueInfoProto{Value("x", TensorProto_FLOAT, "n", 3), Value("w", TensorProto_FLOAT, 3)},
		Output:      []*ValueInfoProto{Value("y", TensorProto_FLOAT, nil)},
		Initializer: []*TensorProto{Float32s("w", []float32{1, 2, 3}, 3)},
		Node:        []*NodeProto{Node("If", []string{"x"}, []string{"y"}, AttrGraph("then_branch", body))},
	}, 0))
	if err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Inputs) != 1 || info.Inputs[0].Name != "x" || len(info.Outputs) != 1 {
		t.Errorf("inputs %v, outputs %v", info.Inputs, info.Outputs)
	}
	if diff := cmp.Diff([]External{{Tensor: "hidden", Location: "../x", DType: 1, Bytes: 4}}, info.External); diff != "" {
		t.Errorf("external data in a subgraph: %s", diff)
	}
	for _, cut := range []int{1, len(data) / 2, len(data) - 1} {
		if _, err := Inspect(data[:cut]); err == nil {
			t.Errorf("a model cut after %d bytes was read", cut)
		}
	}
}
