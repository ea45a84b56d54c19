package npy

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// File is an array of float32 on disk that is read in parts.
type File struct {
	f *os.File
	h header
}

// Open opens an array of float32 and checks that the file holds all that its header announces.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a := &File{f: f}
	if err := a.check(); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

func (a *File) check() (err error) {
	if a.h, err = decodeHeader(a.f); err != nil {
		return err
	}
	if err := a.h.floats(); err != nil {
		return err
	}
	info, err := a.f.Stat()
	if err != nil {
		return err
	}
	if want := a.h.bytes + 4*int64(a.h.count); info.Mode().IsRegular() && info.Size() < want {
		return fmt.Errorf("npy: truncated: %d bytes, and shape %v needs %d", info.Size(), a.h.shape, want)
	}
	return nil
}

// Shape is the array's shape.
func (a *File) Shape() []int { return a.h.shape }

// ReadAt fills dst with the values from number from on, in C order. Calls may run at once.
func (a *File) ReadAt(dst []float32, from int) error {
	if from < 0 || from > a.h.count-len(dst) {
		return fmt.Errorf("npy: values [%d, %d) of %d", from, from+len(dst), a.h.count)
	}
	buf := make([]byte, 4*min(len(dst), piece))
	for done := 0; done < len(dst); {
		part := buf[:4*min(len(dst)-done, piece)]
		if _, err := a.f.ReadAt(part, a.h.bytes+4*int64(from+done)); err != nil {
			return fmt.Errorf("npy: values at %d: %w", from+done, err)
		}
		done += len(appendFloats(dst[done:done], part))
	}
	return nil
}

// Close closes the file.
func (a *File) Close() error { return a.f.Close() }

// ReadLabels reads a vector of whole numbers, of any of NumPy's little-endian integer types: the class of every row.
func ReadLabels(r io.Reader) ([]int, error) {
	h, err := decodeHeader(r)
	if err != nil {
		return nil, err
	}
	width := map[string]int{"|u1": 1, "|i1": 1, "<u2": 2, "<i2": 2, "<u4": 4, "<i4": 4, "<u8": 8, "<i8": 8}[h.descr]
	if width == 0 || len(h.shape) != 1 {
		return nil, fmt.Errorf("npy: an array of %s with shape %v; labels are one row of whole numbers: np.save(file, labels.astype('<i8').ravel())", h.descr, h.shape)
	}
	if h.count > MaxBytes/8 {
		return nil, fmt.Errorf("npy: %d labels are too many", h.count)
	}
	var out []int
	raw := make([]byte, width*min(h.count, piece))
	for len(out) < h.count {
		part := raw[:width*min(h.count-len(out), piece)]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, fmt.Errorf("npy: truncated after %d of %d labels: %w", len(out), h.count, err)
		}
		for ; len(part) > 0; part = part[width:] {
			out = append(out, whole(part[:width], h.descr[1] == 'i'))
		}
	}
	return out, nil
}

func whole(raw []byte, signed bool) int {
	var b [8]byte
	if signed && raw[len(raw)-1]&0x80 != 0 {
		for i := range b {
			b[i] = 0xff
		}
	}
	copy(b[:], raw)
	return int(binary.LittleEndian.Uint64(b[:]))
}
