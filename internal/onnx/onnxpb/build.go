// Package onnxpb holds the protobuf messages of ONNX models, in the subset
// that dreamood needs, with constructors for emitting graphs and functions for
// reading stored tensors. It does not run models; package onnx does.
package onnxpb

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"
)

// DefaultIR and DefaultOpset are the IR version and the opset of the default
// domain that Model writes: ONNX 1.13 and later, ONNX Runtime 1.15 and later.
const (
	DefaultIR    = 8
	DefaultOpset = 17
)

// Model wraps a graph as a model with the given opset of the default domain
// (0 means DefaultOpset).
func Model(graph *GraphProto, opset int64) *ModelProto {
	if opset == 0 {
		opset = DefaultOpset
	}
	return &ModelProto{
		IrVersion:    DefaultIR,
		ProducerName: "dreamood",
		Graph:        graph,
		OpsetImport:  []*OperatorSetIdProto{{Version: opset}},
	}
}

// Node returns an operator of the default domain.
func Node(op string, inputs, outputs []string, attrs ...*AttributeProto) *NodeProto {
	return &NodeProto{OpType: op, Input: inputs, Output: outputs, Attribute: attrs}
}

// AttrInt returns an integer attribute.
func AttrInt(name string, v int64) *AttributeProto {
	return &AttributeProto{Name: name, Type: AttributeProto_INT, I: &v}
}

// AttrInts returns an attribute that is a list of integers.
func AttrInts(name string, v ...int64) *AttributeProto {
	return &AttributeProto{Name: name, Type: AttributeProto_INTS, Ints: v}
}

// AttrFloat returns a float attribute.
func AttrFloat(name string, v float32) *AttributeProto {
	return &AttributeProto{Name: name, Type: AttributeProto_FLOAT, F: &v}
}

// AttrFloats returns an attribute that is a list of floats.
func AttrFloats(name string, v ...float32) *AttributeProto {
	return &AttributeProto{Name: name, Type: AttributeProto_FLOATS, Floats: v}
}

// AttrString returns a string attribute.
func AttrString(name, v string) *AttributeProto {
	return &AttributeProto{Name: name, Type: AttributeProto_STRING, S: []byte(v)}
}

// AttrTensor returns a tensor attribute, as Constant and ConstantOfShape take it.
func AttrTensor(name string, v *TensorProto) *AttributeProto {
	return &AttributeProto{Name: name, Type: AttributeProto_TENSOR, T: v}
}

// AttrGraph returns a subgraph attribute, as Loop and If take it.
func AttrGraph(name string, v *GraphProto) *AttributeProto {
	return &AttributeProto{Name: name, Type: AttributeProto_GRAPH, G: v}
}

// Value declares an input, an output or an intermediate value. A dimension is
// an int or int64 (static), a string (symbolic: equal names are equal sizes),
// or nil (unknown); no dimensions at all declare a scalar. Value panics on
// another kind of dimension, which is a mistake in the calling code.
func Value(name string, dtype TensorProto_DataType, dims ...any) *ValueInfoProto {
	shape := &TensorShapeProto{}
	for _, d := range dims {
		dim := &TensorShapeProto_Dimension{}
		switch d := d.(type) {
		case int:
			dim.Value = &TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}
		case int64:
			dim.Value = &TensorShapeProto_Dimension_DimValue{DimValue: d}
		case string:
			dim.Value = &TensorShapeProto_Dimension_DimParam{DimParam: d}
		case nil:
		default:
			panic(fmt.Sprintf("onnxpb.Value %s: dimension of type %T", name, d))
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &ValueInfoProto{Name: name, Type: &TypeProto{Value: &TypeProto_TensorType{
		TensorType: &TypeProto_Tensor{ElemType: int32(dtype), Shape: shape},
	}}}
}

// Float32s returns a stored float32 tensor; without dims it is a scalar.
func Float32s(name string, data []float32, dims ...int64) *TensorProto {
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return &TensorProto{Name: name, Dims: dims, DataType: int32(TensorProto_FLOAT), RawData: raw}
}

// Float64s returns a stored float64 tensor; without dims it is a scalar.
func Float64s(name string, data []float64, dims ...int64) *TensorProto {
	raw := make([]byte, 0, 8*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(v))
	}
	return &TensorProto{Name: name, Dims: dims, DataType: int32(TensorProto_DOUBLE), RawData: raw}
}

// Int64s returns a stored int64 tensor; without dims it is a scalar.
func Int64s(name string, data []int64, dims ...int64) *TensorProto {
	raw := make([]byte, 0, 8*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return &TensorProto{Name: name, Dims: dims, DataType: int32(TensorProto_INT64), RawData: raw}
}

// Marshal serialises a model; equal models give equal bytes.
func Marshal(m *ModelProto) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// Unmarshal parses a model.
func Unmarshal(data []byte) (*ModelProto, error) {
	m := &ModelProto{}
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("parse ONNX model: %w", err)
	}
	if m.Graph == nil {
		return nil, fmt.Errorf("parse ONNX model: it holds no graph")
	}
	return m, nil
}
