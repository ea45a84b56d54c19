package dataset

import (
	"math"

	"github.com/dreamood/dreamood/internal/philox"
)

// RandAugment (Cubuk et al. 2020, arXiv 1909.13719) applies a few operations, drawn from 14, at one magnitude. Here the
// ranges of the magnitudes are those of torchvision, the operations those of Pillow to the byte, shears are about the
// centre, and what comes in from outside is black.

const (
	maxMagnitude = 30
	// DefaultMagnitude of operations.
	DefaultMagnitude = 9
)

// operation changes a picture [size, size, 3]; strength is in (0, 1], sign 1 or -1.
type operation struct {
	name string
	do   func(src []uint8, size int, strength, sign float64) []uint8
}

var operations = []operation{
	{"identity", func(src []uint8, _ int, _, _ float64) []uint8 { return src }},
	{"autocontrast", func(src []uint8, _ int, _, _ float64) []uint8 { return perChannel(src, stretch) }},
	{"equalize", func(src []uint8, _ int, _, _ float64) []uint8 { return perChannel(src, flatten) }},
	{"rotate", func(src []uint8, size int, s, sign float64) []uint8 {
		sin, cos := math.Sincos(sign * s * 30 * math.Pi / 180)
		return warp(src, size, cos, sin, -sin, cos, 0, 0)
	}},
	{"solarize", func(src []uint8, _ int, s, _ float64) []uint8 {
		return mapped(src, func(v uint8) uint8 {
			if float64(v) < 255*(1-s) {
				return v
			}
			return 255 - v
		})
	}},
	{"posterize", func(src []uint8, _ int, s, _ float64) []uint8 {
		mask := uint8(0xff) << uint(math.Round(4*s))
		return mapped(src, func(v uint8) uint8 { return v & mask })
	}},
	{"color", func(src []uint8, _ int, s, sign float64) []uint8 { return blend(greyed(src), src, 1+sign*0.9*s) }},
	{"contrast", func(src []uint8, _ int, s, sign float64) []uint8 { return blend(mean(src), src, 1+sign*0.9*s) }},
	{"brightness", func(src []uint8, _ int, s, sign float64) []uint8 {
		return blend(make([]uint8, len(src)), src, 1+sign*0.9*s)
	}},
	{"sharpness", func(src []uint8, size int, s, sign float64) []uint8 {
		return blend(smooth(src, size), src, 1+sign*0.9*s)
	}},
	{"shear_x", func(src []uint8, size int, s, sign float64) []uint8 {
		return warp(src, size, 1, sign*0.3*s, 0, 1, 0, 0)
	}},
	{"shear_y", func(src []uint8, size int, s, sign float64) []uint8 {
		return warp(src, size, 1, 0, sign*0.3*s, 1, 0, 0)
	}},
	{"translate_x", func(src []uint8, size int, s, sign float64) []uint8 {
		return warp(src, size, 1, 0, 0, 1, math.Round(sign*s*float64(size)*150/331), 0)
	}},
	{"translate_y", func(src []uint8, size int, s, sign float64) []uint8 {
		return warp(src, size, 1, 0, 0, 1, 0, math.Round(sign*s*float64(size)*150/331))
	}},
}

// operate applies the drawn operations.
func (a Augment) operate(src []uint8, size int, key philox.Key) []uint8 {
	words := make([]uint32, 2*a.Operations)
	philox.Uint32s(words, key)
	for i := range a.Operations {
		sign := 1.0
		if words[2*i+1]>>31 == 1 {
			sign = -1
		}
		src = operations[below(words[2*i], len(operations))].do(src, size, float64(a.Magnitude)/maxMagnitude, sign)
	}
	return src
}

func mapped(src []uint8, f func(uint8) uint8) []uint8 {
	out := make([]uint8, len(src))
	for i, v := range src {
		out[i] = f(v)
	}
	return out
}

// perChannel maps every channel by the table that its histogram gives.
func perChannel(src []uint8, table func(histogram *[256]int) [256]uint8) []uint8 {
	out := make([]uint8, len(src))
	for c := range 3 {
		var histogram [256]int
		for i := c; i < len(src); i += 3 {
			histogram[src[i]]++
		}
		t := table(&histogram)
		for i := c; i < len(src); i += 3 {
			out[i] = t[src[i]]
		}
	}
	return out
}

func same() (t [256]uint8) {
	for i := range t {
		t[i] = uint8(i)
	}
	return t
}

// stretch takes the darkest value to 0 and the brightest to 255.
func stretch(h *[256]int) [256]uint8 {
	low, high := 0, 255
	for low < 255 && h[low] == 0 {
		low++
	}
	for high > 0 && h[high] == 0 {
		high--
	}
	t := same()
	if high <= low {
		return t
	}
	scale := 255 / float64(high-low)
	for i := range t {
		t[i] = uint8(min(max(float64(i)*scale-float64(low)*scale, 0), 255))
	}
	return t
}

// flatten makes all values about as frequent.
func flatten(h *[256]int) [256]uint8 {
	total, last, kinds := 0, 0, 0
	for _, n := range h {
		if n > 0 {
			total, last, kinds = total+n, n, kinds+1
		}
	}
	t, step := same(), (total-last)/255
	if kinds <= 1 || step == 0 {
		return t
	}
	n := step / 2
	for i := range t {
		t[i] = uint8(min(n/step, 255))
		n += h[i]
	}
	return t
}

// luma is the grey value of a pixel, as Pillow computes it.
func luma(rgb []uint8) int {
	return (int(rgb[0])*19595 + int(rgb[1])*38470 + int(rgb[2])*7471 + 0x8000) >> 16
}

func greyed(src []uint8) []uint8 {
	out := make([]uint8, len(src))
	for i := 0; i < len(src); i += 3 {
		g := uint8(luma(src[i : i+3]))
		out[i], out[i+1], out[i+2] = g, g, g
	}
	return out
}

// mean is a picture of the mean grey value.
func mean(src []uint8) []uint8 {
	sum := 0
	for i := 0; i < len(src); i += 3 {
		sum += luma(src[i : i+3])
	}
	g := uint8(float64(sum)/float64(len(src)/3) + 0.5)
	return mapped(src, func(uint8) uint8 { return g })
}

// smooth is Pillow's filter SMOOTH; the border stays.
func smooth(src []uint8, size int) []uint8 {
	out := append([]uint8(nil), src...)
	for y := 1; y < size-1; y++ {
		for x := 1; x < size-1; x++ {
			for c := range 3 {
				sum := 4 * int(src[3*(y*size+x)+c])
				for dy := -1; dy <= 1; dy++ {
					for dx := -1; dx <= 1; dx++ {
						sum += int(src[3*((y+dy)*size+x+dx)+c])
					}
				}
				out[3*(y*size+x)+c] = uint8(float64(sum)/13 + 0.5)
			}
		}
	}
	return out
}

// blend is a + (b − a)·f, cut to bytes.
func blend(a, b []uint8, f float64) []uint8 {
	out := make([]uint8, len(a))
	for i := range out {
		out[i] = uint8(min(max(float32(a[i])+float32(f)*(float32(b[i])-float32(a[i])), 0), 255))
	}
	return out
}

// warp takes the pixel at p of the result from M(p − centre) + centre + (tx, ty), M = [a b; c d], the nearest one.
func warp(src []uint8, size int, a, b, c, d, tx, ty float64) []uint8 {
	out, centre := make([]uint8, len(src)), float64(size)/2
	for y := range size {
		for x := range size {
			px, py := float64(x)+0.5-centre, float64(y)+0.5-centre
			fx, fy := int(math.Floor(a*px+b*py+centre+tx)), int(math.Floor(c*px+d*py+centre+ty))
			if fx >= 0 && fx < size && fy >= 0 && fy < size {
				copy(out[3*(y*size+x):3*(y*size+x)+3], src[3*(fy*size+fx):])
			}
		}
	}
	return out
}
