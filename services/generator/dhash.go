package generator

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"math"
	"math/bits"
)

// The grid that a picture is reduced to for its hash: a bit says whether a cell is darker than its right neighbour.
const (
	hashColumns = 9
	hashRows    = 8
)

// look measures what a picture alone shows: its dHash (Krawetz 2013) and the standard deviation of its grey values
// (Rec. 601, in 1/255). Sums are whole numbers, so the hash is the same on every machine.
func look(file []byte) (hash uint64, contrast float64, err error) {
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return 0, 0, fmt.Errorf("look at a picture: %w", err)
	}
	grey, width, height := greyOf(img)
	if width*height == 0 {
		return 0, 0, nil
	}
	var sum, squares int64
	for _, g := range grey {
		sum, squares = sum+int64(g), squares+int64(g)*int64(g)
	}
	n := float64(len(grey))
	mean := float64(sum) / n
	contrast = math.Sqrt(max(0, float64(squares)/n-mean*mean)) / 1000
	// A cell's grey values, weighted by how much of each pixel lies in it, in parts of hashColumns·hashRows. The weights of
	// every cell have the same sum, so the sums compare as the means do.
	cell := func(x, y int) (sum int64) {
		for j := y * height / hashRows; j < height && j*hashRows < (y+1)*height; j++ {
			down := overlap(j*hashRows, hashRows, y*height, height)
			for i := x * width / hashColumns; i < width && i*hashColumns < (x+1)*width; i++ {
				sum += down * overlap(i*hashColumns, hashColumns, x*width, width) * int64(grey[j*width+i])
			}
		}
		return sum
	}
	for y := range hashRows {
		for x := range hashColumns - 1 {
			hash <<= 1
			if cell(x, y) < cell(x+1, y) {
				hash |= 1
			}
		}
	}
	return hash, contrast, nil
}

// overlap is the length that [a, a+n) and [b, b+m) share.
func overlap(a, n, b, m int) int64 { return int64(max(0, min(a+n, b+m)-max(a, b))) }

// greyOf are grey values in 1/1000 of 1/255, row after row.
func greyOf(img image.Image) (grey []int32, width, height int) {
	r := img.Bounds()
	width, height = r.Dx(), r.Dy()
	grey = make([]int32, 0, width*height)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			cr, cg, cb, _ := img.At(x, y).RGBA()
			grey = append(grey, int32(299*(cr>>8)+587*(cg>>8)+114*(cb>>8)))
		}
	}
	return grey, width, height
}

// seen are the hashes of the pictures of a class that are taken.
type seen struct {
	bits   int // that duplicates differ in at most; −1: there are no duplicates
	hashes []uint64
}

// duplicate says whether a hash is near one that was kept.
func (s *seen) duplicate(hash uint64) bool {
	if s.bits < 0 {
		return false
	}
	for _, h := range s.hashes {
		if bits.OnesCount64(h^hash) <= s.bits {
			return true
		}
	}
	return false
}

func (s *seen) keep(hash uint64) {
	if s.bits >= 0 {
		s.hashes = append(s.hashes, hash)
	}
}
