package dataset

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// zipped is a dataset in a zip archive.
type zipped struct {
	file   *os.File
	size   int64
	reader *zip.Reader
	lim    Limits
}

// bytesPerEntry bounds the central directory of a zip: a header of 46 bytes, a
// name and extra fields. It is read whole before its entries can be counted.
const bytesPerEntry = 256

func openZip(f *os.File, size int64, lim Limits) (source, *Problem) {
	budget := &budgetReader{r: f, left: int64(lim.MaxEntries)*bytesPerEntry + 1<<20}
	r, err := zip.NewReader(budget, size)
	switch {
	case errors.Is(err, errBudget):
		return nil, &Problem{Reason: TooMany, Detail: fmt.Sprintf("the directory of the archive is too long for %d files", lim.MaxEntries), Remedy: "use a smaller part of it, or raise the limit of entries", Err: err}
	case err != nil && !errors.Is(err, zip.ErrInsecurePath): // every name is checked later
		return nil, damaged(err)
	}
	budget.left = -1
	return &zipped{file: f, size: size, reader: r, lim: lim}, nil
}

func damaged(err error) *Problem {
	return &Problem{Reason: Damaged, Detail: "the archive cannot be read to its end: " + err.Error(), Remedy: "copy or download it again, or pack it again", Err: err}
}

func (z *zipped) Close() error { return z.file.Close() }

func (z *zipped) list(ctx context.Context, l *listing) error {
	var unpacked uint64
	for i, f := range z.reader.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := regular
		switch mode := f.Mode(); {
		case mode&fs.ModeSymlink != 0:
			k = link
		case mode.IsDir():
			k = directory
		case !mode.IsRegular():
			k = special
		}
		if k == regular {
			// Saturates: a size of 2^64-1 is a lie, not a wrap to a small sum.
			unpacked = max(unpacked, unpacked+f.UncompressedSize64)
			if f.UncompressedSize64 > 1<<62 || exceeds(int64(min(unpacked, 1<<62)), z.size, l.lim) {
				l.problems.addFatal(bomb(f.Name, l.lim))
				return nil
			}
			if f.Flags&1 != 0 {
				l.problem(f.Name, Unreadable, "the file is encrypted", "pack the dataset again without a password")
				continue
			}
		}
		if !l.add(f.Name, int64(f.UncompressedSize64), i, k) {
			return nil
		}
	}
	return nil
}

// ratioFrom is the unpacked size below which the ratio is nobody's worry.
const ratioFrom = 8 << 20

func exceeds(unpacked, packed int64, lim Limits) bool {
	return unpacked > ratioFrom && unpacked/lim.MaxRatio > packed
}

func bomb(file string, lim Limits) Problem {
	return Problem{File: file, Reason: ArchiveBomb, Detail: fmt.Sprintf("up to here the archive unpacks to more than %d times its size", lim.MaxRatio), Remedy: "pictures do not; get the archive from a source that you trust"}
}

func (z *zipped) each(ctx context.Context, want []entry, do func(int, []byte, error) error) error {
	for i, e := range want {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := z.read(z.reader.File[e.ord], e.size)
		if err := do(i, data, err); err != nil {
			return err
		}
	}
	return nil
}

func (z *zipped) read(f *zip.File, size int64) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only read
	return readEntry(r, size)
}

var errBudget = errors.New("read more than allowed")

// budgetReader fails once more than left bytes were read through it; a
// negative budget is no bound. It is used by one goroutine.
type budgetReader struct {
	r    io.ReaderAt
	left int64
}

func (b *budgetReader) ReadAt(p []byte, off int64) (int, error) {
	if b.left >= 0 {
		if int64(len(p)) > b.left {
			return 0, errBudget
		}
		b.left -= int64(len(p))
	}
	return b.r.ReadAt(p, off)
}
