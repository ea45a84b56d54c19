package npy

import (
	"fmt"
	"io"
)

// Reader reads an array of float32 from a stream in pieces.
type Reader struct {
	r    io.Reader
	h    header
	left int
	buf  []byte
}

// NewReader reads the header of an array of float32. What Read refuses is refused. The values follow with Next.
func NewReader(r io.Reader) (*Reader, error) {
	h, err := decodeHeader(r)
	if err == nil {
		err = h.floats()
	}
	if err != nil {
		return nil, err
	}
	return &Reader{r: r, h: h, left: h.count}, nil
}

// Shape is the array's shape.
func (a *Reader) Shape() []int { return a.h.shape }

// Next fills dst with the next values in C order. A stream that ends before them, or an array, is an error.
func (a *Reader) Next(dst []float32) error {
	if len(dst) > a.left {
		return fmt.Errorf("npy: %d values of the %d that are left", len(dst), a.left)
	}
	if a.buf == nil {
		a.buf = make([]byte, 4*min(a.h.count, piece))
	}
	for done := 0; done < len(dst); {
		part := a.buf[:4*min(len(dst)-done, piece)]
		if _, err := io.ReadFull(a.r, part); err != nil {
			return fmt.Errorf("npy: truncated with %d of %d values left: %w", a.left, a.h.count, err)
		}
		done += len(appendFloats(dst[done:done], part))
		a.left -= len(part) / 4
	}
	return nil
}

// Skip passes over the next n values.
func (a *Reader) Skip(n int) error {
	if n > a.left {
		return fmt.Errorf("npy: skip %d values of the %d that are left", n, a.left)
	}
	if _, err := io.CopyN(io.Discard, a.r, 4*int64(n)); err != nil {
		return fmt.Errorf("npy: truncated with %d of %d values left: %w", a.left, a.h.count, err)
	}
	a.left -= n
	return nil
}
