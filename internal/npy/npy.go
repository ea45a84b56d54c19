// Package npy reads and writes NumPy's .npy files of float32 rows: embeddings and banks, in the layout that the
// published Dream-OOD code reads and writes (format 1.0, little-endian, C order).
package npy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

const magic = "\x93NUMPY"

// MaxBytes bounds the data that Read takes into memory.
const MaxBytes = 8 << 30

// Write writes data as an array of the given shape.
func Write(w io.Writer, data []float32, shape ...int) error {
	n, dims := 1, make([]string, len(shape))
	for i, d := range shape {
		n, dims[i] = n*d, strconv.Itoa(d)
	}
	if n != len(data) || len(shape) == 0 {
		return fmt.Errorf("npy: %d values do not fill the shape %v", len(data), shape)
	}
	tuple := strings.Join(dims, ", ")
	if len(shape) == 1 {
		tuple += ","
	}
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", tuple)
	pad := 64 - (len(magic)+4+len(header)+1)%64
	header += strings.Repeat(" ", pad%64) + "\n"
	b := bufio.NewWriterSize(w, 1<<16)
	b.WriteString(magic + "\x01\x00") // a bufio.Writer keeps its first error for Flush
	b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(header))))
	b.WriteString(header)
	var buf [4]byte
	for _, v := range data {
		binary.LittleEndian.PutUint32(buf[:], math.Float32bits(v))
		b.Write(buf[:])
	}
	return b.Flush()
}

var headerPattern = regexp.MustCompile(`^\{\s*'descr':\s*'([^']*)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([0-9, ]*)\),?\s*\}\s*$`)

// Read reads an array of float32. Other types, Fortran order, truncated and oversized files are refused.
func Read(r io.Reader) (data []float32, shape []int, err error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:6]) != magic {
		return nil, nil, errors.Join(errors.New("npy: not a NumPy file"), err)
	}
	size := int(binary.LittleEndian.Uint16(head[8:]))
	if head[6] != 1 {
		if head[6] > 3 {
			return nil, nil, fmt.Errorf("npy: format %d is not known", head[6])
		}
		more := make([]byte, 2)
		if _, err := io.ReadFull(r, more); err != nil {
			return nil, nil, fmt.Errorf("npy: header: %w", err)
		}
		size |= int(binary.LittleEndian.Uint16(more)) << 16
	}
	if size > 1<<16 {
		return nil, nil, fmt.Errorf("npy: a header of %d bytes is too long", size)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, nil, fmt.Errorf("npy: header: %w", err)
	}
	shape, err = parse(string(text))
	if err != nil {
		return nil, nil, err
	}
	n := 1
	for _, d := range shape {
		if d != 0 && n > MaxBytes/4/d {
			return nil, nil, fmt.Errorf("npy: shape %v is larger than %d bytes", shape, MaxBytes)
		}
		n *= d
	}
	return values(r, n, shape)
}

// values reads piece by piece, so that a header that lies about the size costs no memory.
func values(r io.Reader, n int, shape []int) ([]float32, []int, error) {
	const piece = 1 << 18
	var data []float32
	buf := make([]byte, 4*min(n, piece))
	for len(data) < n {
		part := buf[:4*min(n-len(data), piece)]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, nil, fmt.Errorf("npy: truncated after %d of %d values: %w", len(data), n, err)
		}
		for i := 0; i < len(part); i += 4 {
			data = append(data, math.Float32frombits(binary.LittleEndian.Uint32(part[i:])))
		}
	}
	return data, shape, nil
}

func parse(header string) ([]int, error) {
	m := headerPattern.FindStringSubmatch(header)
	switch {
	case m == nil:
		return nil, fmt.Errorf("npy: header %q is not understood", header)
	case m[1] != "<f4":
		return nil, fmt.Errorf("npy: the type is %s; convert it with .astype('<f4')", m[1])
	case m[2] == "True":
		return nil, errors.New("npy: Fortran order; save np.ascontiguousarray(a)")
	}
	var shape []int
	for _, s := range strings.Split(m[3], ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		d, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("npy: shape (%s): %w", m[3], err)
		}
		shape = append(shape, d)
	}
	return shape, nil
}
