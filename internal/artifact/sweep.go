package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Sweep says what may go.
type Sweep struct {
	// Live reports whether something names a blob. It answers for the whole of a moment that lies after the call of Sweep.
	Live func(Ref) bool
	// Grace is how long a blob without a name stays: first where it is, since it was last put, then in the trash.
	Grace time.Duration
	// DryRun counts and changes nothing.
	DryRun bool
}

// Amount is a number of blobs and their bytes.
type Amount struct{ Blobs, Bytes int64 }

func (a *Amount) add(info fs.FileInfo) { a.plus(info.Size()) }

func (a *Amount) plus(size int64) { a.Blobs++; a.Bytes += size }

// Swept says what became of every blob.
type Swept struct {
	Live     Amount // named by something
	Young    Amount // named by nothing, and put within Grace, or trashed within Grace
	Trashed  Amount // moved to the trash
	Recalled Amount // moved back from the trash, because something names them now
	Removed  Amount // removed from the trash, for good
	Partial  Amount // files that a dead process was writing more than a day ago, removed
	Strange  Amount // files that are no blobs: left alone
}

// Sweep removes blobs that nothing names, in two steps, so that no order of events loses one that is needed. A blob that
// is not live and was not put for Grace goes to the trash. From there it comes back when somebody opens it, or when a
// later sweep finds it live; otherwise it is removed after Grace more. A blob that is put again counts from then, and one
// that is put while its file is on its way to the trash is put back or written anew.
//
// What cannot be looked at or moved is left and is in the error; the rest is swept all the same. Space is given back
// first, so a full disk does not stop it.
func (f *Files) Sweep(ctx context.Context, s Sweep) (Swept, error) {
	w := sweeper{Sweep: s, files: f, now: f.clock()}
	w.partial(ctx)
	w.trash(ctx)
	w.blobs(ctx)
	return w.swept, errors.Join(append(w.errs, ctx.Err())...)
}

// maxErrors bounds the errors of a sweep: a folder that cannot be written fails for each of its files.
const maxErrors = 20

type sweeper struct {
	Sweep
	files *Files
	now   time.Time // by the clock of the file system
	swept Swept
	errs  []error
}

func (w *sweeper) failed(err error) {
	if errors.Is(err, fs.ErrNotExist) { // somebody else moved it
		return
	}
	if len(w.errs) < maxErrors {
		w.errs = append(w.errs, fmt.Errorf("sweep: %w", err))
	}
}

func (w *sweeper) young(info fs.FileInfo) bool { return w.now.Sub(info.ModTime()) < w.Grace }

// each calls do for the files of a folder.
func (w *sweeper) each(ctx context.Context, folder string, do func(path string, info fs.FileInfo)) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		w.failed(err)
		return
	}
	for _, entry := range entries {
		if ctx.Err() != nil {
			return
		}
		info, err := entry.Info()
		if err != nil {
			w.failed(err)
			continue
		}
		do(filepath.Join(folder, entry.Name()), info)
	}
}

func (w *sweeper) partial(ctx context.Context) {
	w.each(ctx, w.files.tmp, func(path string, info fs.FileInfo) {
		if w.now.Sub(info.ModTime()) <= staleAfter || !info.Mode().IsRegular() {
			return
		}
		if !w.DryRun {
			if err := os.Remove(path); err != nil {
				w.failed(err)
				return
			}
		}
		w.swept.Partial.add(info)
	})
}

// trash looks at what earlier sweeps, or others at this moment, have moved there. A file there counts from its move.
func (w *sweeper) trash(ctx context.Context) {
	w.each(ctx, w.files.trash, func(path string, info fs.FileInfo) {
		ref, err := Parse(scheme + info.Name())
		switch {
		case err != nil || !info.Mode().IsRegular():
			w.swept.Strange.add(info)
		case w.Live(ref):
			if w.DryRun || w.files.recall(ref) {
				w.swept.Recalled.add(info)
			}
		case w.now.Sub(changed(info)) < w.Grace:
			w.swept.Young.add(info)
		default:
			if !w.DryRun {
				if err := os.Remove(path); err != nil {
					w.failed(err)
					return
				}
			}
			w.swept.Removed.add(info)
		}
	})
}

func (w *sweeper) blobs(ctx context.Context) {
	w.each(ctx, w.files.blobs, func(folder string, info fs.FileInfo) {
		if !info.IsDir() {
			w.swept.Strange.add(info)
			return
		}
		w.each(ctx, folder, w.blob)
	})
}

func (w *sweeper) blob(path string, info fs.FileInfo) {
	ref, err := Parse(scheme + info.Name())
	switch {
	case err != nil || !info.Mode().IsRegular() || w.files.path(ref) != path:
		w.swept.Strange.add(info)
	case w.Live(ref):
		w.swept.Live.add(info)
	case w.young(info):
		w.swept.Young.add(info)
	case w.DryRun:
		w.swept.Trashed.add(info)
	default:
		w.discard(ref, info)
	}
}

// discard moves a blob to the trash. Its time is looked at again once nobody can put it where it was: a Put that found it
// there has made it young, and it goes back; a Put from now on writes it anew.
func (w *sweeper) discard(ref Ref, info fs.FileInfo) {
	trash := w.files.trashed(ref)
	if err := os.Rename(w.files.path(ref), trash); err != nil {
		w.failed(err)
		return
	}
	if again, err := os.Stat(trash); err != nil || w.young(again) {
		w.files.recall(ref) // where it is gone, somebody has opened it, and it is back
		w.swept.Young.add(info)
		return
	}
	if err := touch(trash); err != nil {
		w.failed(err)
	}
	w.swept.Trashed.add(info)
}

// recall moves a blob back from the trash, as young as one that was put now. It is false when it is not there.
func (f *Files) recall(ref Ref) bool {
	trash := f.trashed(ref)
	_ = touch(trash) // before it is back; where this fails it is as young as when it was trashed
	return os.Rename(trash, f.path(ref)) == nil
}

func (f *Files) trashed(ref Ref) string { return filepath.Join(f.trash, ref.Hex()) }

// clock is the time by which files are dated: the file system's own where a file can be made, else this machine's.
func (f *Files) clock() time.Time {
	file, err := os.CreateTemp(f.tmp, "clock-*")
	if err != nil {
		return time.Now()
	}
	defer os.Remove(file.Name())
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}
