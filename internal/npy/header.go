package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

const magic = "\x93NUMPY"

// header is what a file says about its array.
type header struct {
	descr   string // NumPy's name of the type, e.g. "<f4"
	fortran bool
	shape   []int
	count   int   // values
	bytes   int64 // of the header: where the values begin
}

// encodeHeader makes the header of an array of float32.
func encodeHeader(shape []int) ([]byte, error) { return headerOf("'<f4'", shape) }

// headerOf makes the header of an array of a type as Python writes it, byte for byte as np.save does: format 1.0, room
// for the first axis to grow to 21 digits, and the values at a multiple of 64 bytes.
func headerOf(descr string, shape []int) ([]byte, error) {
	if len(shape) == 0 {
		return nil, errors.New("npy: an array needs one axis at least")
	}
	dims := make([]string, len(shape))
	for i, d := range shape {
		if d < 0 {
			return nil, fmt.Errorf("npy: shape %v", shape)
		}
		dims[i] = strconv.Itoa(d)
	}
	tuple := strings.Join(dims, ", ")
	if len(shape) == 1 {
		tuple += ","
	}
	text := fmt.Sprintf("{'descr': %s, 'fortran_order': False, 'shape': (%s), }", descr, tuple) + strings.Repeat(" ", max(0, 21-len(dims[0])))
	text += strings.Repeat(" ", 64-(len(magic)+4+len(text)+1)%64) + "\n"
	if len(text) > 1<<16-1 {
		return nil, fmt.Errorf("npy: a shape of %d axes is too long", len(shape))
	}
	b := binary.LittleEndian.AppendUint16([]byte(magic+"\x01\x00"), uint16(len(text)))
	return append(b, text...), nil
}

var headerPattern = regexp.MustCompile(`^\{\s*'descr':\s*'([^']*)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([0-9, ]*)\),?\s*\}\s*$`)

// decodeHeader reads a header of any format that NumPy has had.
func decodeHeader(r io.Reader) (header, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:6]) != magic {
		return header{}, errors.Join(errors.New("npy: not a NumPy file"), err)
	}
	size := int(binary.LittleEndian.Uint16(head[8:]))
	at := int64(len(head))
	if head[6] != 1 {
		if head[6] > 3 {
			return header{}, fmt.Errorf("npy: format %d is not known", head[6])
		}
		more := make([]byte, 2)
		if _, err := io.ReadFull(r, more); err != nil {
			return header{}, fmt.Errorf("npy: header: %w", err)
		}
		size |= int(binary.LittleEndian.Uint16(more)) << 16
		at += 2
	}
	if size > 1<<16 {
		return header{}, fmt.Errorf("npy: a header of %d bytes is too long", size)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return header{}, fmt.Errorf("npy: header: %w", err)
	}
	h, err := parse(string(text))
	h.bytes = at + int64(size)
	return h, err
}

func parse(text string) (header, error) {
	m := headerPattern.FindStringSubmatch(text)
	if m == nil {
		return header{}, fmt.Errorf("npy: header %q is not understood", text)
	}
	h := header{descr: m[1], fortran: m[2] == "True", count: 1}
	for _, s := range strings.Split(m[3], ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		d, err := strconv.Atoi(s)
		if err != nil {
			return header{}, fmt.Errorf("npy: shape (%s): %w", m[3], err)
		}
		if d != 0 && h.count > maxValues/d {
			return header{}, fmt.Errorf("npy: shape (%s) has more than %d values", m[3], maxValues)
		}
		h.shape, h.count = append(h.shape, d), h.count*d
	}
	return h, nil
}

// floats refuses what does not hold float32 in C order, with the line of Python that converts it.
func (h header) floats() error {
	switch {
	case h.descr != "<f4":
		return fmt.Errorf("npy: the type is %s, not little-endian float32; convert it in Python: np.save(file, a.astype('<f4'))", h.descr)
	case h.fortran:
		return errors.New("npy: the array is in Fortran order; convert it in Python: np.save(file, np.ascontiguousarray(a))")
	}
	return nil
}
