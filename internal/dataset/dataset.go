package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
)

// Dataset is labelled pictures in memory. It is not changed after it was made,
// and safe for concurrent use as long as nobody writes to its slices.
type Dataset struct {
	Name    string   // of its origin, for reports
	Classes []string // names; a label is an index into them
	Size    int      // edge of every picture, in pixels
	Pixels  []uint8  // [N, Size, Size, 3] RGB
	Labels  []int32  // [N]
	Files   []string // [N] path of each picture inside the dataset
	Alpha   int      // pictures that had transparency, now over white
	Resized int      // pictures that were cropped or resized

	sums [][sha256.Size]byte // [N] of the encoded file, or of the pixels
}

func newDataset(name string, p plan, opt Options) *Dataset {
	n := len(p.picks)
	d := &Dataset{
		Name: name, Classes: p.classes, Size: opt.Size,
		Pixels: make([]uint8, n*opt.Size*opt.Size*3),
		Labels: make([]int32, n), Files: make([]string, n),
		sums: make([][sha256.Size]byte, n),
	}
	for i, pick := range p.picks {
		d.Labels[i], d.Files[i] = pick.label, pick.path
	}
	return d
}

// FromPixels makes a dataset of pictures that are in memory already, such as a
// rendered outlier set. It keeps the slices. files may be nil.
func FromPixels(name string, classes []string, size int, pixels []uint8, labels []int32, files []string) (*Dataset, error) {
	var errs []error
	n := len(labels)
	if files == nil {
		files = make([]string, n)
		for i := range files {
			files[i] = fmt.Sprintf("%06d", i)
		}
	}
	if size < 1 || size > MaxSize {
		errs = append(errs, fmt.Errorf("size is %d; want 1 to %d pixels", size, MaxSize))
	}
	if n == 0 {
		errs = append(errs, errors.New("no pictures"))
	}
	if want := n * size * size * 3; len(pixels) != want {
		errs = append(errs, fmt.Errorf("%d bytes of pixels; want %d for [%d, %d, %d, 3]", len(pixels), want, n, size, size))
	}
	if len(files) != n {
		errs = append(errs, fmt.Errorf("%d file names for %d labels", len(files), n))
	}
	for i, l := range labels {
		if l < 0 || int(l) >= len(classes) {
			errs = append(errs, fmt.Errorf("label %d of picture %d is none of the %d classes", l, i, len(classes)))
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("dataset %s: %w", name, err)
	}
	d := &Dataset{Name: name, Classes: classes, Size: size, Pixels: pixels, Labels: labels, Files: files}
	d.sums = make([][sha256.Size]byte, n)
	for i := range d.sums {
		d.sums[i] = sha256.Sum256(d.Image(i))
	}
	return d, nil
}

// Len returns the number of pictures, N.
func (d *Dataset) Len() int { return len(d.Labels) }

// Image returns the pixels of picture i, [Size, Size, 3], as a view.
func (d *Dataset) Image(i int) []uint8 {
	n := d.Size * d.Size * 3
	return d.Pixels[i*n : (i+1)*n : (i+1)*n]
}

// Counts returns the number of pictures of each class.
func (d *Dataset) Counts() []int {
	counts := make([]int, len(d.Classes))
	for _, l := range d.Labels {
		counts[l]++
	}
	return counts
}

// Indices returns the positions of the pictures of a class, rising.
func (d *Dataset) Indices(label int32) []int {
	var at []int
	for i, l := range d.Labels {
		if l == label {
			at = append(at, i)
		}
	}
	return at
}

// Subset copies the pictures at the given positions, in that order. The
// classes stay as they are, also those that lose all pictures.
func (d *Dataset) Subset(at []int) *Dataset {
	s := &Dataset{
		Name: d.Name, Classes: d.Classes, Size: d.Size,
		Pixels: make([]uint8, 0, len(at)*d.Size*d.Size*3),
		Labels: make([]int32, len(at)), Files: make([]string, len(at)),
		sums: make([][sha256.Size]byte, len(at)),
	}
	for i, j := range at {
		s.Pixels = append(s.Pixels, d.Image(j)...)
		s.Labels[i], s.Files[i], s.sums[i] = d.Labels[j], d.Files[j], d.sums[j]
	}
	return s
}

// Digest returns the provenance of a dataset in 64 hexadecimal digits: the
// SHA-256 over its size, its classes, and the sorted class, file name and
// SHA-256 of every picture. The order of the pictures, the packing and leading
// folders do not change it.
func (d *Dataset) Digest() string {
	lines := make([]string, d.Len())
	for i := range lines {
		lines[i] = fmt.Sprintf("%q %q %x\n", d.Classes[d.Labels[i]], path.Base(d.Files[i]), d.sums[i])
	}
	slices.Sort(lines)
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "dataset 1 size %d classes %q\n", d.Size, d.Classes) // a hash never fails
	_, _ = h.Write([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(h.Sum(nil))
}

// MeanStd returns the mean and the population standard deviation of each
// channel over all pixels, in [0, 1].
func (d *Dataset) MeanStd() (mean, std [3]float64) {
	var sum, squares [3]uint64 // exact: 255² · 2^40 pixels fit
	for i := 0; i+2 < len(d.Pixels); i += 3 {
		for c := range 3 {
			v := uint64(d.Pixels[i+c])
			sum[c] += v
			squares[c] += v * v
		}
	}
	n := float64(len(d.Pixels) / 3)
	for c := range 3 {
		m := float64(sum[c]) / n
		mean[c] = m / 255
		std[c] = math.Sqrt(max(0, float64(squares[c])/n-m*m)) / 255
	}
	return mean, std
}

// Float32 writes the pictures at the given positions to dst as
// [len(at), 3, Size, Size] in [0, 1], without augmentation.
func (d *Dataset) Float32(dst []float32, at ...int) {
	n := d.Size * d.Size * 3
	for i, j := range at {
		planar(dst[i*n:(i+1)*n], d.Image(j))
	}
}

// planar turns [Size, Size, 3] bytes into [3, Size, Size] floats in [0, 1].
func planar(dst []float32, src []uint8) {
	plane := len(src) / 3
	for i := range plane {
		dst[i] = float32(src[3*i]) / 255
		dst[plane+i] = float32(src[3*i+1]) / 255
		dst[2*plane+i] = float32(src[3*i+2]) / 255
	}
}
