package dataset

import (
	"errors"
	"fmt"

	"github.com/dreamood/dreamood/internal/philox"
)

// Augment says how training pictures are varied. The zero value leaves them as
// they are.
type Augment struct {
	Pad    int  // random crop after reflect padding by this many pixels; the paper's set-up is 4
	Flip   bool // mirror half of the pictures left to right
	Cutout int  // edge of a square set to the mean colour (DeVries and Taylor 2017, arXiv 1708.04552), in pixels; it may hang over the border

	Operations int // drawn for each picture from those of RandAugment, and applied before the others; see operate
	Magnitude  int // of them, 1 to 30; 9 is usual
}

// Standard is the augmentation of the published CIFAR training: crop with
// padding 4, and mirroring.
func Standard() Augment { return Augment{Pad: 4, Flip: true} }

// Check reports every setting that does not fit pictures of that size.
func (a Augment) Check(size int) error {
	var errs []error
	if a.Pad < 0 || a.Pad >= size {
		errs = append(errs, fmt.Errorf("augment: padding is %d; want 0 to %d for pictures of %d pixels", a.Pad, size-1, size))
	}
	if a.Cutout < 0 || a.Cutout > size {
		errs = append(errs, fmt.Errorf("augment: cutout is %d; want 0 to %d", a.Cutout, size))
	}
	if a.Operations < 0 || a.Operations > 8 {
		errs = append(errs, fmt.Errorf("augment: %d operations; want 0 to 8", a.Operations))
	}
	if a.Operations > 0 && (a.Magnitude < 1 || a.Magnitude > maxMagnitude) || a.Operations == 0 && a.Magnitude != 0 {
		errs = append(errs, fmt.Errorf("augment: magnitude %d of %d operations; want 1 to %d, and 0 without operations", a.Magnitude, a.Operations, maxMagnitude))
	}
	return errors.Join(errs...)
}

// below maps a word to [0, n); n is small, so the bias is below 2^-22.
func below(word uint32, n int) int { return int(uint64(word) * uint64(n) >> 32) }

// variation is one choice of the augmentation.
type variation struct {
	dx, dy int // of the crop, -Pad to Pad
	flip   bool
	cx, cy int // centre of the cutout
}

func (a Augment) vary(size int, key philox.Key) variation {
	if a == (Augment{}) {
		return variation{}
	}
	var w [5]uint32
	philox.Uint32s(w[:], key)
	return variation{
		dx: below(w[0], 2*a.Pad+1) - a.Pad, dy: below(w[1], 2*a.Pad+1) - a.Pad,
		flip: a.Flip && w[2]>>31 == 1,
		cx:   below(w[3], size), cy: below(w[4], size),
	}
}

// apply writes src, [size, size, 3] bytes, varied by d, to dst as
// [3, size, size] floats in [0, 1]. fill is the colour of the cutout.
func (a Augment) apply(dst []float32, src []uint8, size int, d variation, fill [3]float32) {
	plane := size * size
	for y := range size {
		row := reflected(y+d.dy, size) * size
		for x := range size {
			from := x
			if d.flip {
				from = size - 1 - x
			}
			at := 3 * (row + reflected(from+d.dx, size))
			to := y*size + x
			dst[to] = float32(src[at]) / 255
			dst[plane+to] = float32(src[at+1]) / 255
			dst[2*plane+to] = float32(src[at+2]) / 255
		}
	}
	if a.Cutout == 0 {
		return
	}
	x0, y0 := d.cx-a.Cutout/2, d.cy-a.Cutout/2
	for y := max(y0, 0); y < min(y0+a.Cutout, size); y++ {
		for x := max(x0, 0); x < min(x0+a.Cutout, size); x++ {
			for c := range 3 {
				dst[c*plane+y*size+x] = fill[c]
			}
		}
	}
}

// reflected mirrors an index at the borders without repeating them, as the
// padding mode "reflect" of NumPy and PyTorch does; |overhang| < n.
func reflected(i, n int) int {
	if i < 0 {
		return -i
	}
	if i >= n {
		return 2*n - 2 - i
	}
	return i
}
