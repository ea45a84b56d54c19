package onnx

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// domains are those of ONNX itself and of ONNX Runtime's own operators, which
// its optimiser puts into models. Libraries of other operators are never
// loaded.
var domains = []string{"", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}

// refused are operators of ONNX Runtime that run code or read files that the
// model names.
var refused = []string{"EPContext", "PythonOp", "PythonOpGrad", "ATen", "Snpe"}

// ReadModel reads a model file of at most onnxpb.MaxModel bytes.
func ReadModel(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() || stat.Size() > onnxpb.MaxModel {
		return nil, fmt.Errorf("%s: want a regular file of at most %d bytes, with larger weights in files of their own", path, onnxpb.MaxModel)
	}
	data := make([]byte, stat.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// inspect is what every model passes before ONNX Runtime sees it.
func inspect(model []byte, dir string) (*onnxpb.Info, error) {
	info, err := onnxpb.Inspect(model)
	if err != nil {
		return nil, err
	}
	if len(info.External) > 0 && dir == "" {
		return nil, fmt.Errorf("tensor %q has external data, but no folder for it was given", info.External[0].Tensor)
	}
	for _, op := range info.Operators {
		if !slices.Contains(domains, op.Domain) {
			return nil, fmt.Errorf("operator %q is of the domain %q, which ONNX Runtime does not have; libraries of operators are not loaded", op.Type, op.Domain)
		}
		if op.Domain == "com.microsoft" && slices.Contains(refused, op.Type) {
			return nil, fmt.Errorf("operator %q is refused: it runs code or reads files that the model names", op)
		}
	}
	return info, CheckExternal(info, dir)
}

// Vet reads the model file at path with its external data and refuses what no
// honest model holds: see onnxpb.Inspect, CheckExternal, operators of unknown
// domains, and stored numbers that are not numbers (NaN). It returns what the
// model says about itself.
func Vet(path string) (*onnxpb.Info, error) {
	model, err := ReadModel(path)
	if err != nil {
		return nil, err
	}
	info, err := inspect(model, filepath.Dir(path))
	if err == nil {
		err = checkNumbers(info, filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

func checkNumbers(info *onnxpb.Info, dir string) error {
	for _, s := range info.Stored {
		if k := nan(s.DType, s.Raw); k >= 0 {
			return fmt.Errorf("tensor %q: element %d is not a number (NaN)", s.Tensor, k)
		}
	}
	for _, ext := range info.External {
		if DType(ext.DType).Size() == 0 || nan(ext.DType, nil) == -2 {
			continue
		}
		if err := checkExternalNumbers(ext, dir); err != nil {
			return err
		}
	}
	return nil
}

// checkExternalNumbers reads a tensor in pieces.
func checkExternalNumbers(ext onnxpb.External, dir string) error {
	path, offset, length, err := externalRange(ext, dir)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("external data of tensor %q: %w", ext.Tensor, err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(io.NewSectionReader(f, offset, length), 1<<16)
	piece := make([]byte, 1<<20)
	for done := int64(0); done < length; {
		n, err := io.ReadFull(r, piece[:min(int64(len(piece)), length-done)])
		if err != nil {
			return fmt.Errorf("external data of tensor %q: read %s: %w", ext.Tensor, path, err)
		}
		if k := nan(ext.DType, piece[:n]); k >= 0 {
			return fmt.Errorf("external data of tensor %q: element %d is not a number (NaN)", ext.Tensor, done/int64(DType(ext.DType).Size())+int64(k))
		}
		done += int64(n)
	}
	return nil
}

// nan is the index of the first NaN in little-endian numbers of a type: -1
// where there is none, -2 where the type has none.
func nan(dtype onnxpb.TensorProto_DataType, raw []byte) int {
	le := binary.LittleEndian
	switch dtype {
	case onnxpb.TensorProto_FLOAT:
		for k := 0; k+4 <= len(raw); k += 4 {
			if le.Uint32(raw[k:])&0x7fffffff > 0x7f800000 {
				return k / 4
			}
		}
	case onnxpb.TensorProto_DOUBLE:
		for k := 0; k+8 <= len(raw); k += 8 {
			if le.Uint64(raw[k:])&^(1<<63) > 0x7ff<<52 {
				return k / 8
			}
		}
	case onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_BFLOAT16:
		infinity := uint16(0x7c00)
		if dtype == onnxpb.TensorProto_BFLOAT16 {
			infinity = 0x7f80
		}
		for k := 0; k+2 <= len(raw); k += 2 {
			if le.Uint16(raw[k:])&0x7fff > infinity {
				return k / 2
			}
		}
	default:
		return -2
	}
	return -1
}

// explain says what to do when ONNX Runtime has no kernel for an operator of
// the model on the provider.
func explain(err error, info *onnxpb.Info, provider string) error {
	text := err.Error()
	if !strings.Contains(text, "NOT_IMPLEMENTED") && !strings.Contains(text, "Could not find an implementation") && !strings.Contains(text, "Failed to find kernel") {
		return err
	}
	if provider == "" {
		provider = "cpu"
	}
	var missing []string
	for _, op := range info.Operators {
		if strings.Contains(text, " "+op.Type+"(") || strings.Contains(text, "for "+op.Type) {
			missing = append(missing, op.String())
		}
	}
	if len(missing) == 0 {
		return err
	}
	return fmt.Errorf("%w: ONNX Runtime has no implementation of the operator %s on the provider %s, for the types that the model gives it: choose another provider, or export the model without that optimisation (%w)",
		ErrNoKernel, strings.Join(missing, ", "), provider, err)
}

// ErrNoKernel is the error of a model with an operator that the provider does
// not have.
var ErrNoKernel = errors.New("operator not available")
