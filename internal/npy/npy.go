// Package npy reads and writes NumPy's .npy files of float32 rows: embeddings and banks, in the layout that the
// published Dream-OOD code reads and writes (little-endian, C order). Files larger than memory are written and read in
// pieces.
package npy

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// MaxBytes bounds the data that Read takes into memory.
const MaxBytes = 8 << 30

// maxValues bounds the values that a header may announce.
const maxValues = 1 << 48

// piece is the number of values that are read or written at once.
const piece = 1 << 16

// Write writes data as an array of the given shape.
func Write(w io.Writer, data []float32, shape ...int) error {
	a, err := NewWriter(w, shape...)
	if err != nil {
		return err
	}
	if err := a.Append(data); err != nil {
		return err
	}
	return a.Close()
}

// Writer writes an array of float32 in pieces.
type Writer struct {
	w     io.Writer
	shape []int
	left  int
	buf   []byte
}

// NewWriter writes the header of an array of the given shape. The values follow with Append.
func NewWriter(w io.Writer, shape ...int) (*Writer, error) {
	head, err := encodeHeader(shape)
	if err != nil {
		return nil, err
	}
	left := 1
	for _, d := range shape {
		if d != 0 && left > maxValues/d {
			return nil, fmt.Errorf("npy: shape %v has more than %d values", shape, maxValues)
		}
		left *= d
	}
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	return &Writer{w: w, shape: shape, left: left, buf: make([]byte, 0, 4*piece)}, nil
}

// Append writes the next values in C order. More than the shape holds are an error.
func (a *Writer) Append(values []float32) error {
	if len(values) > a.left {
		return fmt.Errorf("npy: %d values too many for the shape %v", len(values)-a.left, a.shape)
	}
	a.left -= len(values)
	for _, v := range values {
		if a.buf = binary.LittleEndian.AppendUint32(a.buf, math.Float32bits(v)); len(a.buf) == cap(a.buf) {
			if err := a.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Writer) flush() error {
	_, err := a.w.Write(a.buf)
	a.buf = a.buf[:0]
	return err
}

// Close writes what is left. Values that are missing are an error. It does not close the file.
func (a *Writer) Close() error {
	if a.left > 0 {
		return fmt.Errorf("npy: %d values are missing from the shape %v", a.left, a.shape)
	}
	return a.flush()
}

// Read reads an array of float32. Other types, Fortran order, truncated and oversized files are refused.
func Read(r io.Reader) (data []float32, shape []int, err error) {
	h, err := decodeHeader(r)
	if err != nil {
		return nil, nil, err
	}
	if err := h.floats(); err != nil {
		return nil, nil, err
	}
	if h.count > MaxBytes/4 {
		return nil, nil, fmt.Errorf("npy: shape %v is larger than %d bytes", h.shape, MaxBytes)
	}
	buf := make([]byte, 4*min(h.count, piece))
	for len(data) < h.count { // piece by piece, so that a header that lies about the size costs no memory
		part := buf[:4*min(h.count-len(data), piece)]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, nil, fmt.Errorf("npy: truncated after %d of %d values: %w", len(data), h.count, err)
		}
		data = appendFloats(data, part)
	}
	return data, h.shape, nil
}

func appendFloats(data []float32, raw []byte) []float32 {
	for i := 0; i < len(raw); i += 4 {
		data = append(data, math.Float32frombits(binary.LittleEndian.Uint32(raw[i:])))
	}
	return data
}
