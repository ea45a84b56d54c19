package npy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// View is the array of float32 in raw, the bytes of a whole file, without a copy: data is part of raw, and is as
// writable and lives as long as that. What Read refuses is refused; so is a file whose values do not begin at a multiple
// of 4 bytes, which NumPy does not write, and a CPU that is not little-endian.
func View(raw []byte) (data []float32, shape []int, err error) {
	h, err := decodeHeader(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, err
	}
	if err := h.floats(); err != nil {
		return nil, nil, err
	}
	values := raw[h.bytes:]
	if len(values)/4 < h.count {
		return nil, nil, fmt.Errorf("npy: truncated: %d bytes of values, and shape %v needs %d", len(values), h.shape, 4*h.count)
	}
	if h.count == 0 {
		return nil, h.shape, nil
	}
	first := unsafe.Pointer(unsafe.SliceData(values))
	if uintptr(first)%4 != 0 {
		return nil, nil, errors.New("npy: the values do not begin at a multiple of 4 bytes; write the file again with np.save")
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil, nil, errors.New("npy: this CPU is not little-endian; read the file instead")
	}
	return unsafe.Slice((*float32)(first), h.count), h.shape, nil
}
