package diffusion

import (
	"encoding/json"
	"fmt"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// floatTensor is a tensor of a floating-point type that is worked on in
// float32: push writes the values into the tensor, pull reads them back. Both
// do nothing where the tensor is float32.
type floatTensor struct {
	values []float32
	tensor *onnx.Tensor
}

func newFloatTensor(dtype onnx.DType, shape ...int64) (*floatTensor, error) {
	switch dtype {
	case onnx.Float32, onnx.Float16, onnx.BFloat16:
	default:
		return nil, fmt.Errorf("inputs and outputs of type %v are not supported, want float32, float16 or bfloat16", dtype)
	}
	tensor, err := onnx.Empty(dtype, shape...)
	if err != nil {
		return nil, err
	}
	values, err := tensor.Floats()
	if err != nil {
		tensor.Close()
		return nil, err
	}
	return &floatTensor{values: values, tensor: tensor}, nil
}

func (f *floatTensor) push() {
	switch f.tensor.DType() {
	case onnx.Float16:
		for i, bits := 0, f.tensor.Bits(); i < len(bits); i++ {
			bits[i] = onnxpb.Float32ToHalf(f.values[i])
		}
	case onnx.BFloat16:
		for i, bits := 0, f.tensor.Bits(); i < len(bits); i++ {
			bits[i] = onnxpb.Float32ToBFloat16(f.values[i])
		}
	}
}

func (f *floatTensor) pull() {
	switch f.tensor.DType() {
	case onnx.Float16:
		for i, bits := range f.tensor.Bits() {
			f.values[i] = onnxpb.HalfToFloat32(bits)
		}
	case onnx.BFloat16:
		for i, bits := range f.tensor.Bits() {
			f.values[i] = onnxpb.BFloat16ToFloat32(bits)
		}
	}
}

// jsonSize is a size that configurations write as one number or as
// [height, width].
type jsonSize struct{ height, width int }

func (s *jsonSize) UnmarshalJSON(data []byte) error {
	var both []int
	if err := json.Unmarshal(data, &both); err == nil {
		if len(both) != 2 {
			return fmt.Errorf("size %s: want one number or two", data)
		}
		s.height, s.width = both[0], both[1]
		return nil
	}
	var one int
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	s.height, s.width = one, one
	return nil
}
