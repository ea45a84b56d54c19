package dataset

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// tarball is a dataset in a tar archive, plain or in gzip. It is read from
// front to back twice, once to list it and once for the pictures, so that
// memory holds one encoded picture at a time and not the archive.
type tarball struct {
	file *os.File
	size int64
	gzip bool
	lim  Limits
}

func (t *tarball) Close() error { return t.file.Close() }

var (
	errBomb  = errors.New("unpacks to far more than it is")
	errTotal = errors.New("unpacks to more than the limit of total bytes")
)

// tarOverhead is what an entry takes beside its content: headers and padding.
const tarOverhead = 2048

// stream starts at the front. What comes out of it is bounded by the limits.
func (t *tarball) stream(ctx context.Context) (*tar.Reader, error) {
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var r io.Reader = bufio.NewReaderSize(t.file, 1<<16)
	if t.gzip {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	}
	return tar.NewReader(&boundedReader{ctx: ctx, r: r, packed: t.size, lim: t.lim}), nil
}

func (t *tarball) list(ctx context.Context, l *listing) error {
	r, err := t.stream(ctx)
	if err != nil {
		l.problems.addFatal(*damaged(err))
		return nil
	}
	last := ""
	for ord := 0; ; ord++ {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errBomb):
			l.problems.addFatal(bomb(last, l.lim))
			return nil
		case errors.Is(err, errTotal):
			l.problems.addFatal(tooMuch(l.lim))
			return nil
		case err != nil && !errors.Is(err, tar.ErrInsecurePath): // every name is checked
			p := damaged(err)
			if last != "" {
				p.Detail += " (after " + printable(last) + ")"
			}
			l.problems.addFatal(*p)
			return nil
		}
		last = h.Name
		k := special
		switch h.Typeflag {
		case tar.TypeReg:
			k = regular
		case tar.TypeDir:
			k = directory
		case tar.TypeSymlink, tar.TypeLink:
			k = link
		case tar.TypeXGlobalHeader: // written by git archive; no file
			continue
		}
		if !l.add(h.Name, h.Size, ord, k) {
			return nil
		}
	}
}

func (t *tarball) each(ctx context.Context, want []entry, do func(int, []byte, error) error) error {
	r, err := t.stream(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", t.file.Name(), err)
	}
	i := 0
	for ord := 0; i < len(want); ord++ {
		h, err := r.Next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read %s: the archive changed while it was read: %w", t.file.Name(), err)
		}
		if ord != want[i].ord {
			continue
		}
		var data []byte
		if h.Size != want[i].size {
			err = errors.New("the archive changed while it was read")
		} else {
			data, err = readEntry(r, h.Size)
		}
		if err := do(i, data, err); err != nil {
			return err
		}
		i++
	}
	return nil
}

// boundedReader fails when an archive unpacks to more than its limits, or when
// the context is done.
type boundedReader struct {
	ctx    context.Context
	r      io.Reader
	packed int64
	lim    Limits
	out    int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	b.out += int64(n)
	switch {
	case exceeds(b.out, b.packed, b.lim):
		return 0, errBomb
	case b.out > b.lim.MaxTotalBytes+int64(b.lim.MaxEntries)*tarOverhead:
		return 0, errTotal
	}
	return n, err
}
