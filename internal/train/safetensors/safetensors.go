// Package safetensors reads and writes float32 tensors in the safetensors
// format (a JSON header with names, shapes and offsets, then the raw values),
// which PyTorch and other tools read without running code.
package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
)

// maxHeader bounds the header of a file that is read, in bytes.
const maxHeader = 16 << 20

// Tensor is a row-major float32 tensor.
type Tensor struct {
	Shape []int
	Data  []float32
}

// File is the content of a file.
type File struct {
	Tensors  map[string]Tensor
	Metadata map[string]string
}

type entry struct {
	DType   string    `json:"dtype"`
	Shape   []int     `json:"shape"`
	Offsets [2]uint64 `json:"data_offsets"`
}

const metadataKey = "__metadata__"

// Write writes the file with its tensors in the order of their names; equal
// files give equal bytes.
func Write(w io.Writer, f File) error {
	header, offset := map[string]any{}, uint64(0)
	names := slices.Sorted(maps.Keys(f.Tensors))
	for _, name := range names {
		t := f.Tensors[name]
		if name == metadataKey || elements(t.Shape) != len(t.Data) {
			return fmt.Errorf("write safetensors: tensor %q of shape %v with %d values", name, t.Shape, len(t.Data))
		}
		end := offset + 4*uint64(len(t.Data))
		header[name] = entry{"F32", append([]int{}, t.Shape...), [2]uint64{offset, end}}
		offset = end
	}
	if len(f.Metadata) > 0 {
		header[metadataKey] = f.Metadata
	}
	text, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	for len(text)%8 != 0 { // the values begin at a multiple of 8 bytes
		text = append(text, ' ')
	}
	buf := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	for _, name := range names {
		for _, v := range f.Tensors[name].Data {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if _, err := w.Write(buf); err != nil {
			return fmt.Errorf("write safetensors: %w", err)
		}
		buf = buf[:0]
	}
	if len(buf) > 0 {
		if _, err := w.Write(buf); err != nil {
			return fmt.Errorf("write safetensors: %w", err)
		}
	}
	return nil
}

// Read reads a file whose tensors are all float32.
func Read(r io.Reader) (File, error) {
	f, err := read(r)
	if err != nil {
		return File{}, fmt.Errorf("read safetensors: %w", err)
	}
	return f, nil
}

func read(r io.Reader) (File, error) {
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return File{}, err
	}
	n := binary.LittleEndian.Uint64(size[:])
	if n > maxHeader {
		return File{}, fmt.Errorf("a header of %d bytes; the limit is %d", n, maxHeader)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return File{}, fmt.Errorf("header: %w", err)
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(text, &header); err != nil {
		return File{}, fmt.Errorf("header: %w", err)
	}
	f := File{Tensors: make(map[string]Tensor, len(header)), Metadata: map[string]string{}}
	if m, ok := header[metadataKey]; ok {
		if err := json.Unmarshal(m, &f.Metadata); err != nil {
			return File{}, fmt.Errorf("header: metadata: %w", err)
		}
		delete(header, metadataKey)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return File{}, err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(header)) {
		t, err := decode(header[name], raw)
		if err != nil {
			errs = append(errs, fmt.Errorf("tensor %q: %w", name, err))
		}
		f.Tensors[name] = t
	}
	return f, errors.Join(errs...)
}

func decode(header json.RawMessage, raw []byte) (Tensor, error) {
	var e entry
	if err := json.Unmarshal(header, &e); err != nil {
		return Tensor{}, err
	}
	from, to := e.Offsets[0], e.Offsets[1]
	switch {
	case e.DType != "F32":
		return Tensor{}, fmt.Errorf("type %s, want F32", e.DType)
	case from > to || to > uint64(len(raw)):
		return Tensor{}, fmt.Errorf("values at %d to %d of %d bytes: the file is cut short or damaged", from, to, len(raw))
	case elements(e.Shape) < 0 || 4*uint64(elements(e.Shape)) != to-from:
		return Tensor{}, fmt.Errorf("shape %v with %d bytes", e.Shape, to-from)
	}
	t := Tensor{Shape: e.Shape, Data: make([]float32, elements(e.Shape))}
	for i := range t.Data {
		t.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[from+4*uint64(i):]))
	}
	return t, nil
}

// elements is the number of elements of a shape, −1 for a shape that is absurd.
func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt32/d {
			return -1
		}
		n *= d
	}
	return n
}
