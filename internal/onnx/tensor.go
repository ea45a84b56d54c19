package onnx

import (
	"fmt"
	"slices"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// Tensor is an array in memory that sessions read and write, in row-major
// order. A tensor may be an input of several runs at once, an output of one.
// It has to be closed; closing while a run uses it is a mistake.
type Tensor struct {
	dtype DType
	shape []int64
	data  any // []float32, []int64, …; []uint16 for the 16-bit floats
	value ort.Value
}

// NewFloat32 makes a float32 tensor over data without copying it, so that
// writes to data are seen by later runs. Without a shape it is a scalar;
// scalars hold a copy and cannot be changed.
func NewFloat32(data []float32, shape ...int64) (*Tensor, error) {
	return newTensor(Float32, data, shape)
}

// NewFloat64 is NewFloat32 for float64.
func NewFloat64(data []float64, shape ...int64) (*Tensor, error) {
	return newTensor(Float64, data, shape)
}

// NewInt64 is NewFloat32 for int64.
func NewInt64(data []int64, shape ...int64) (*Tensor, error) {
	return newTensor(Int64, data, shape)
}

// NewInt32 is NewFloat32 for int32.
func NewInt32(data []int32, shape ...int64) (*Tensor, error) {
	return newTensor(Int32, data, shape)
}

// NewUint8 is NewFloat32 for uint8.
func NewUint8(data []uint8, shape ...int64) (*Tensor, error) {
	return newTensor(Uint8, data, shape)
}

// NewBool is NewFloat32 for bool.
func NewBool(data []bool, shape ...int64) (*Tensor, error) {
	return newTensor(Bool, data, shape)
}

// EmptyFloat32 makes a float32 tensor of zeros.
func EmptyFloat32(shape ...int64) (*Tensor, error) { return Empty(Float32, shape...) }

// Empty makes a tensor of zeros.
func Empty(dtype DType, shape ...int64) (*Tensor, error) {
	n, err := onnxpb.Elements(shape)
	if err != nil {
		return nil, fmt.Errorf("make %v tensor: %w", dtype, err)
	}
	switch dtype {
	case Float32:
		return newTensor(dtype, make([]float32, n), shape)
	case Float64:
		return newTensor(dtype, make([]float64, n), shape)
	case Int64:
		return newTensor(dtype, make([]int64, n), shape)
	case Int32:
		return newTensor(dtype, make([]int32, n), shape)
	case Uint8:
		return newTensor(dtype, make([]uint8, n), shape)
	case Bool:
		return newTensor(dtype, make([]bool, n), shape)
	case Float16, BFloat16:
		return newHalf(dtype, make([]uint16, n), shape)
	}
	return nil, fmt.Errorf("make %v tensor: unsupported element type", dtype)
}

// FromFloats makes a tensor of a floating-point type from float32 values,
// rounded where the type is narrower. It wraps data only where dtype is
// Float32.
func FromFloats(dtype DType, data []float32, shape ...int64) (*Tensor, error) {
	switch dtype {
	case Float32:
		return newTensor(dtype, data, shape)
	case Float64:
		wide := make([]float64, len(data))
		for i, v := range data {
			wide[i] = float64(v)
		}
		return newTensor(dtype, wide, shape)
	case Float16, BFloat16:
		round := onnxpb.Float32ToHalf
		if dtype == BFloat16 {
			round = onnxpb.Float32ToBFloat16
		}
		bits := make([]uint16, len(data))
		for i, v := range data {
			bits[i] = round(v)
		}
		return newHalf(dtype, bits, shape)
	}
	return nil, fmt.Errorf("make %v tensor from floats: not a floating-point type", dtype)
}

func checkShape(dtype DType, n int, shape []int64) error {
	want, err := onnxpb.Elements(shape)
	if err == nil && want != int64(n) {
		err = fmt.Errorf("shape %v wants %d elements, got %d", shape, want, n)
	}
	if err == nil {
		err = Open("")
	}
	if err != nil {
		return fmt.Errorf("make %v tensor: %w", dtype, err)
	}
	return nil
}

func newTensor[T ort.TensorData](dtype DType, data []T, shape []int64) (*Tensor, error) {
	if err := checkShape(dtype, len(data), shape); err != nil {
		return nil, err
	}
	t := &Tensor{dtype: dtype, shape: slices.Clone(shape), data: data}
	var err error
	if len(shape) == 0 {
		t.value, err = ort.NewScalar(data[0])
	} else {
		t.value, err = ort.NewTensor(ort.NewShape(shape...), data)
	}
	if err != nil {
		return nil, fmt.Errorf("make %v tensor of shape %v: %w", dtype, shape, err)
	}
	return t, nil
}

// newHalf goes through the binding's tensors of bytes, which know no scalars
// and no empty tensors.
func newHalf(dtype DType, bits []uint16, shape []int64) (*Tensor, error) {
	if err := checkShape(dtype, len(bits), shape); err != nil {
		return nil, err
	}
	if len(shape) == 0 || len(bits) == 0 {
		return nil, fmt.Errorf("make %v tensor of shape %v: scalars and empty tensors of this type are not supported", dtype, shape)
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&bits[0])), 2*len(bits))
	value, err := ort.NewCustomDataTensor(ort.NewShape(shape...), raw, ort.TensorElementDataType(dtype))
	if err != nil {
		return nil, fmt.Errorf("make %v tensor of shape %v: %w", dtype, shape, err)
	}
	return &Tensor{dtype: dtype, shape: slices.Clone(shape), data: bits, value: value}, nil
}

// DType returns the type of the elements.
func (t *Tensor) DType() DType { return t.dtype }

// Shape returns the dimensions; it is empty for a scalar.
func (t *Tensor) Shape() []int64 { return slices.Clone(t.shape) }

// Float32 returns the elements, as a view: writing to it changes the tensor
// (except for scalars). Like the other views it panics on another type.
func (t *Tensor) Float32() []float32 { return view[float32](t) }

// Float64 returns the elements of a float64 tensor; see Float32.
func (t *Tensor) Float64() []float64 { return view[float64](t) }

// Int64 returns the elements of an int64 tensor; see Float32.
func (t *Tensor) Int64() []int64 { return view[int64](t) }

// Int32 returns the elements of an int32 tensor; see Float32.
func (t *Tensor) Int32() []int32 { return view[int32](t) }

// Uint8 returns the elements of a uint8 tensor; see Float32.
func (t *Tensor) Uint8() []uint8 { return view[uint8](t) }

// Bool returns the elements of a bool tensor; see Float32.
func (t *Tensor) Bool() []bool { return view[bool](t) }

// Bits returns the bits of the elements of a float16 or bfloat16 tensor; see
// Float32.
func (t *Tensor) Bits() []uint16 {
	if t.dtype != Float16 && t.dtype != BFloat16 {
		panic(fmt.Sprintf("onnx: Bits of a %v tensor", t.dtype))
	}
	return view[uint16](t)
}

func view[T ort.TensorData](t *Tensor) []T {
	data, ok := t.data.([]T)
	if !ok {
		panic(fmt.Sprintf("onnx: %T view of a %v tensor", data, t.dtype))
	}
	if s, ok := t.value.(*ort.Scalar[T]); ok {
		return []T{s.GetData()}
	}
	return data
}

// Floats returns the elements of a tensor of any floating-point type as
// float32: a view of a float32 tensor, else a converted copy.
func (t *Tensor) Floats() ([]float32, error) {
	switch t.dtype {
	case Float32:
		return t.Float32(), nil
	case Float64:
		src := t.Float64()
		out := make([]float32, len(src))
		for i, v := range src {
			out[i] = float32(v)
		}
		return out, nil
	case Float16, BFloat16:
		widen := onnxpb.HalfToFloat32
		if t.dtype == BFloat16 {
			widen = onnxpb.BFloat16ToFloat32
		}
		src := t.Bits()
		out := make([]float32, len(src))
		for i, v := range src {
			out[i] = widen(v)
		}
		return out, nil
	}
	return nil, fmt.Errorf("read %v tensor as floats: not a floating-point type", t.dtype)
}

// Close frees the tensor's native part; views stay valid. Closing twice, or a
// nil tensor, does nothing.
func (t *Tensor) Close() error {
	if t == nil || t.value == nil {
		return nil
	}
	value := t.value
	t.value = nil
	return value.Destroy()
}

// wrap takes over an output that ONNX Runtime allocated.
func wrap(value ort.Value) (*Tensor, error) {
	t := &Tensor{shape: value.GetShape(), value: value}
	switch v := value.(type) {
	case *ort.Tensor[float32]:
		t.dtype, t.data = Float32, v.GetData()
	case *ort.Tensor[float64]:
		t.dtype, t.data = Float64, v.GetData()
	case *ort.Tensor[int64]:
		t.dtype, t.data = Int64, v.GetData()
	case *ort.Tensor[int32]:
		t.dtype, t.data = Int32, v.GetData()
	case *ort.Tensor[uint8]:
		t.dtype, t.data = Uint8, v.GetData()
	case *ort.Tensor[bool]:
		t.dtype, t.data = Bool, v.GetData()
	default:
		value.Destroy()
		return nil, fmt.Errorf("unsupported kind of output (%T)", value)
	}
	return t, nil
}
