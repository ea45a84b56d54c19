package dataset

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
)

// folder is a dataset on disk. It is read through an [os.Root], so that no
// path leaves it even when somebody swaps a file for a link meanwhile.
type folder struct {
	fsys   fs.FS
	closer io.Closer
	lim    Limits
}

func (f *folder) Close() error { return f.closer.Close() }

func (f *folder) list(ctx context.Context, l *listing) error {
	ord := 0
	return fs.WalkDir(f.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			f.problem(l, name, err)
			return nil
		}
		if name == "." {
			return nil
		}
		if d.IsDir() && isJunk(path.Base(name)) {
			return fs.SkipDir
		}
		k, size := regular, int64(0)
		switch t := d.Type(); {
		case d.IsDir():
			k = directory
		case t&fs.ModeSymlink != 0:
			k = link
		case !t.IsRegular():
			k = special
		default:
			info, err := d.Info()
			if err != nil {
				f.problem(l, name, err)
				return nil
			}
			size = info.Size()
		}
		ord++
		if !l.add(name, size, ord, k) {
			return fs.SkipAll
		}
		if k == directory && checkPath(name) != "" {
			return fs.SkipDir // reported once, not for every file below
		}
		return nil
	})
}

func (f *folder) problem(l *listing, name string, err error) {
	p := pathProblem(err)
	p.File = name
	if name == "." {
		p.File = ""
	}
	if p.Reason == NotADataset || p.Reason == NotFound {
		p.Reason, p.Detail, p.Remedy = Unreadable, err.Error(), "check the disk, or remove it"
	}
	l.problems.add(-1, *p)
}

func (f *folder) each(ctx context.Context, want []entry, do func(int, []byte, error) error) error {
	for i, e := range want {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := f.read(e)
		if err := do(i, data, err); err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) read(e entry) ([]byte, error) {
	file, err := f.fsys.Open(e.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != e.size {
		return nil, errors.New("the file changed while the dataset was read")
	}
	return readEntry(file, e.size)
}
