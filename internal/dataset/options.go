package dataset

import (
	"errors"
	"fmt"
)

// Resize names the filter that brings a picture to the size of the dataset.
type Resize string

// Filters. Bicubic and bilinear are antialiased: their support grows with the
// reduction, as in Pillow. Nearest leaves aliasing patterns that a detector can
// see; it is there to reproduce published set-ups.
const (
	Bicubic  Resize = "bicubic" // Catmull-Rom, a = -0.5; the default
	Bilinear Resize = "bilinear"
	Nearest  Resize = "nearest"
)

// Limits bound what a dataset may cost before it is refused. The zero value of
// a field stands for its default.
type Limits struct {
	MaxEntries     int   // files and folders in the dataset; default 250,000
	MaxFileBytes   int64 // one encoded picture; default 32 MiB
	MaxTotalBytes  int64 // all files, unpacked; default 8 GiB
	MaxPixels      int64 // width × height of one picture; default 2^25 (33.5 million)
	MaxRatio       int64 // unpacked : packed size of an archive; default 200
	MaxMemoryBytes int64 // decoded pictures in memory, N·Size·Size·3; default 4 GiB
}

// Defaults returns the limits with every zero field set to its default.
func (l Limits) Defaults() Limits {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	if l.MaxEntries == 0 {
		l.MaxEntries = 250_000
	}
	set(&l.MaxFileBytes, 32<<20)
	set(&l.MaxTotalBytes, 8<<30)
	set(&l.MaxPixels, 1<<25)
	set(&l.MaxRatio, 200)
	set(&l.MaxMemoryBytes, 4<<30)
	return l
}

// Options say what to take from a dataset and how. The zero value takes all of
// it at 32×32.
type Options struct {
	Size     int      // pictures become Size×Size; default 32, at most 1024
	Resize   Resize   // filter; default Bicubic
	PerClass int      // at most this many pictures per class; 0 = all
	Seed     uint64   // which pictures PerClass takes: 0 = the first in the order of the archive, else a shuffle with this seed
	Classes  []string // only these classes, labelled in this order; empty = all, sorted
	Under    string   // only pictures below this folder, for example "train"; empty = all
	Workers  int      // decoding goroutines; default GOMAXPROCS
	Limits   Limits
}

// MaxSize is the largest edge a dataset can be decoded to, in pixels.
const MaxSize = 1024

// prepare returns the options with defaults, or every mistake in them at once.
func (o Options) prepare() (Options, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("dataset options: "+format, args...)) }
	if o.Size == 0 {
		o.Size = 32
	}
	if o.Size < 1 || o.Size > MaxSize {
		bad("size is %d; want 1 to %d pixels", o.Size, MaxSize)
	}
	switch o.Resize {
	case "":
		o.Resize = Bicubic
	case Bicubic, Bilinear, Nearest:
	default:
		bad("resize is %q; want %q, %q or %q", o.Resize, Bicubic, Bilinear, Nearest)
	}
	if o.PerClass < 0 {
		bad("pictures per class is %d; want 0 (all) or more", o.PerClass)
	}
	if o.Workers < 0 {
		bad("workers is %d; want 0 (as many as CPUs) or more", o.Workers)
	}
	seen := map[string]bool{}
	for _, c := range o.Classes {
		if seen[c] {
			bad("class %q is asked for twice", c)
		}
		seen[c] = true
	}
	l := o.Limits
	if l.MaxEntries < 0 || l.MaxFileBytes < 0 || l.MaxTotalBytes < 0 || l.MaxPixels < 0 || l.MaxRatio < 0 || l.MaxMemoryBytes < 0 {
		bad("a limit is negative; want 0 (the default) or more")
	}
	o.Limits = l.Defaults()
	return o, errors.Join(errs...)
}
