package onnxpb

import (
	"encoding/binary"
	"fmt"
	"math"
)

// MaxElements bounds the number of elements of a stored tensor that this
// package accepts, so that a hostile shape cannot ask for absurd memory.
const MaxElements = 1 << 33

// Elements returns the number of elements of a shape, or an error when a
// dimension is negative or the product passes MaxElements.
func Elements(dims []int64) (int64, error) {
	n := int64(1)
	for _, d := range dims {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", dims)
		}
		if d != 0 && n > MaxElements/d {
			return 0, fmt.Errorf("shape %v holds more than %d elements", dims, int64(MaxElements))
		}
		n *= d
	}
	return n, nil
}

// FindInitializer returns the stored tensor of that name, or nil.
func (x *GraphProto) FindInitializer(name string) *TensorProto {
	for _, t := range x.GetInitializer() {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Floats returns the elements of a stored float32, float16, bfloat16 or
// float64 tensor in row-major order as a fresh slice. External data has to be
// brought in first (onnx.LoadExternal).
func Floats(t *TensorProto) ([]float32, error) {
	n, err := Elements(t.GetDims())
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.GetName(), err)
	}
	if t.DataLocation == TensorProto_EXTERNAL {
		return nil, fmt.Errorf("tensor %q: its data lies in an external file", t.Name)
	}
	dtype := TensorProto_DataType(t.DataType)
	if len(t.RawData) > 0 {
		return rawFloats(t, dtype, n)
	}
	var out []float32
	switch dtype {
	case TensorProto_FLOAT:
		out = append(out, t.FloatData...)
	case TensorProto_DOUBLE:
		for _, v := range t.DoubleData {
			out = append(out, float32(v))
		}
	case TensorProto_FLOAT16:
		for _, v := range t.Int32Data {
			out = append(out, HalfToFloat32(uint16(v)))
		}
	case TensorProto_BFLOAT16:
		for _, v := range t.Int32Data {
			out = append(out, BFloat16ToFloat32(uint16(v)))
		}
	default:
		return nil, fmt.Errorf("tensor %q holds %v, want floats", t.Name, dtype)
	}
	if int64(len(out)) != n {
		return nil, fmt.Errorf("tensor %q: shape %v wants %d elements, %d are stored", t.Name, t.Dims, n, len(out))
	}
	return out, nil
}

func rawFloats(t *TensorProto, dtype TensorProto_DataType, n int64) ([]float32, error) {
	size := map[TensorProto_DataType]int64{
		TensorProto_FLOAT: 4, TensorProto_FLOAT16: 2, TensorProto_BFLOAT16: 2, TensorProto_DOUBLE: 8,
	}[dtype]
	if size == 0 {
		return nil, fmt.Errorf("tensor %q holds %v, want floats", t.Name, dtype)
	}
	if int64(len(t.RawData)) != n*size {
		return nil, fmt.Errorf("tensor %q: shape %v of %v wants %d bytes, %d are stored", t.Name, t.Dims, dtype, n*size, len(t.RawData))
	}
	le, raw := binary.LittleEndian, t.RawData
	out := make([]float32, n)
	for i := range out {
		switch dtype {
		case TensorProto_FLOAT:
			out[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
		case TensorProto_FLOAT16:
			out[i] = HalfToFloat32(le.Uint16(raw[2*i:]))
		case TensorProto_BFLOAT16:
			out[i] = BFloat16ToFloat32(le.Uint16(raw[2*i:]))
		case TensorProto_DOUBLE:
			out[i] = float32(math.Float64frombits(le.Uint64(raw[8*i:])))
		}
	}
	return out, nil
}

// Ints returns the elements of a stored int64 or int32 tensor in row-major
// order; nil is an error too, for callers that look tensors up.
func Ints(t *TensorProto) ([]int64, error) {
	if t == nil {
		return nil, fmt.Errorf("no such tensor is stored")
	}
	n, err := Elements(t.GetDims())
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.GetName(), err)
	}
	if t.DataLocation == TensorProto_EXTERNAL {
		return nil, fmt.Errorf("tensor %q: its data lies in an external file", t.Name)
	}
	var out []int64
	size := int64(8)
	switch TensorProto_DataType(t.DataType) {
	case TensorProto_INT64:
		out = append(out, t.Int64Data...)
	case TensorProto_INT32:
		size = 4
		for _, v := range t.Int32Data {
			out = append(out, int64(v))
		}
	default:
		return nil, fmt.Errorf("tensor %q: its elements are no integers of 32 or 64 bits", t.Name)
	}
	if len(t.RawData) > 0 {
		if int64(len(t.RawData)) != n*size {
			return nil, fmt.Errorf("tensor %q: %d bytes for %d elements", t.Name, len(t.RawData), n)
		}
		for i := range n {
			if size == 8 {
				out = append(out, int64(binary.LittleEndian.Uint64(t.RawData[8*i:])))
			} else {
				out = append(out, int64(int32(binary.LittleEndian.Uint32(t.RawData[4*i:]))))
			}
		}
	}
	if int64(len(out)) != n {
		return nil, fmt.Errorf("tensor %q: %d of %d elements are stored", t.Name, len(out), n)
	}
	return out, nil
}
