package dataset

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
)

// EncodePNG encodes [size, size, 3] uint8 RGB as an 8-bit RGB PNG. The same
// pixels give the same bytes.
func EncodePNG(pixels []uint8, size int) ([]byte, error) {
	if size < 1 || len(pixels) != size*size*3 {
		return nil, fmt.Errorf("encode png: %d bytes of pixels; want %d for [%d, %d, 3]", len(pixels), size*size*3, size, size)
	}
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for i := range size * size {
		copy(img.Pix[4*i:], pixels[3*i:3*i+3])
		img.Pix[4*i+3] = 255
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("encode png: %w", err)
	}
	return b.Bytes(), nil
}
