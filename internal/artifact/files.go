package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// smallBlob is how much of a stream is held in memory to learn its name before anything is written.
	smallBlob = 1 << 20
	// staleAfter is the age at which a temporary file is the rest of a process that died.
	staleAfter = 24 * time.Hour
)

// Files is a Store in a folder:
//
//	blobs/sha256/ab/abcdef…   one file per blob, under the first two digits of its name
//	blobs/tmp/                what is being written
//	blobs/trash/              what nothing names: Sweep puts it there, and Open brings it back
type Files struct {
	blobs string // <dir>/blobs/sha256
	tmp   string // <dir>/blobs/tmp, on the same file system
	trash string // <dir>/blobs/trash, the same

	mappings mappings
}

// NewFiles opens the store in dir and makes the folder where it is missing. Temporary files that a dead process left
// more than a day ago are removed.
func NewFiles(dir string) (*Files, error) {
	f := &Files{blobs: filepath.Join(dir, "blobs", "sha256"), tmp: filepath.Join(dir, "blobs", "tmp"), trash: filepath.Join(dir, "blobs", "trash")}
	for _, folder := range []string{f.blobs, f.tmp, f.trash} {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return nil, fmt.Errorf("artifact folder: %w", err)
		}
	}
	entries, err := os.ReadDir(f.tmp)
	if err != nil {
		return nil, fmt.Errorf("artifact folder: %w", err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(f.tmp, entry.Name())) // the next start tries again
		}
	}
	return f, nil
}

// Put stores what r yields. A blob that is there already is not written again, provided that r can seek or is at most
// 1 MiB; a longer stream is written to a temporary file first. Either way its age counts from now.
func (f *Files) Put(ctx context.Context, r io.Reader) (Ref, error) {
	if seeker, ok := r.(io.ReadSeeker); ok {
		return f.putSeeker(ctx, seeker)
	}
	head, err := io.ReadAll(io.LimitReader(contextReader{ctx, r}, smallBlob+1))
	if err != nil {
		return "", fmt.Errorf("read the blob to store: %w", err)
	}
	if len(head) <= smallBlob {
		return f.putSeeker(ctx, bytes.NewReader(head))
	}
	return f.write(ctx, io.MultiReader(bytes.NewReader(head), r))
}

func (f *Files) putSeeker(ctx context.Context, r io.ReadSeeker) (Ref, error) {
	start, err := r.Seek(0, io.SeekCurrent)
	if err != nil { // a pipe that only looks like a file
		return f.write(ctx, r)
	}
	digest := sha256.New()
	size, err := io.Copy(digest, contextReader{ctx, r})
	if err != nil {
		return "", fmt.Errorf("read the blob to store: %w", err)
	}
	ref := refOfSum(digest.Sum(nil))
	if info, err := os.Stat(f.path(ref)); err == nil && info.Size() == size && touch(f.path(ref)) == nil {
		return ref, nil // as young as a new one: no sweep takes it before it is named
	}
	if _, err := r.Seek(start, io.SeekStart); err != nil {
		return "", fmt.Errorf("read the blob to store: %w", err)
	}
	return f.write(ctx, r)
}

// write stores r by way of a temporary file: its name is known only at the end.
func (f *Files) write(ctx context.Context, r io.Reader) (_ Ref, err error) {
	tmp, err := os.CreateTemp(f.tmp, "put-*")
	if err != nil {
		return "", fmt.Errorf("store blob: %w", err)
	}
	defer func() {
		tmp.Close() // harmless when closed before
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	digest := sha256.New()
	if _, err := io.Copy(io.MultiWriter(tmp, digest), contextReader{ctx, r}); err != nil {
		return "", fmt.Errorf("store blob in %s: %w", f.tmp, err)
	}
	ref := refOfSum(digest.Sum(nil))
	if err := errors.Join(tmp.Chmod(0o640), tmp.Sync(), tmp.Close()); err != nil {
		return "", fmt.Errorf("store %s: %w", ref, err)
	}
	path := f.path(ref)
	if err := f.makeFolder(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("store %s: %w", ref, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return "", fmt.Errorf("store %s: %w", ref, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("store %s: %w", ref, err)
	}
	return ref, nil
}

// Open reads a blob; see Store.
func (f *Files) Open(ctx context.Context, ref Ref) (io.ReadCloser, error) {
	size, err := f.Stat(ctx, ref)
	if err != nil {
		return nil, err
	}
	file, err := f.open(ref)
	if err != nil {
		return nil, f.explain(ref, err)
	}
	return &verifier{name: file.Name(), closer: file, body: contextReader{ctx, file}, ref: ref, size: size, digest: sha256.New()}, nil
}

// Stat returns the size in bytes. An empty file under the name of a blob that is not empty is ErrCorrupt: that is how
// a file system without a journal shows a crash.
func (f *Files) Stat(ctx context.Context, ref Ref) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if _, err := Parse(string(ref)); err != nil {
		return 0, err
	}
	info, err := os.Stat(f.path(ref))
	for range recalls {
		if !errors.Is(err, fs.ErrNotExist) || !f.recall(ref) && !f.present(ref) {
			break
		}
		info, err = os.Stat(f.path(ref))
	}
	if err != nil {
		return 0, f.explain(ref, err)
	}
	if info.Size() == 0 && ref != RefOf(nil) {
		return 0, f.corrupt(ref, "the file is empty")
	}
	return info.Size(), nil
}

// recalls bounds how often a reader and a sweep take a blob from each other.
const recalls = 5

// open opens a blob's file, out of the trash where it lies there.
func (f *Files) open(ref Ref) (*os.File, error) {
	file, err := os.Open(f.path(ref))
	for range recalls {
		if !errors.Is(err, fs.ErrNotExist) || !f.recall(ref) && !f.present(ref) {
			break
		}
		file, err = os.Open(f.path(ref))
	}
	return file, err
}

// present reports whether a blob is there again: another reader may have brought it back.
func (f *Files) present(ref Ref) bool {
	_, err := os.Stat(f.path(ref))
	return err == nil
}

func (f *Files) path(ref Ref) string {
	digits := ref.Hex()
	return filepath.Join(f.blobs, digits[:2], digits)
}

func (f *Files) explain(ref Ref, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s in %s: %w", ref, f.blobs, ErrNotFound)
	}
	return fmt.Errorf("open %s: %w", ref, err)
}

func (f *Files) corrupt(ref Ref, what string) error {
	return fmt.Errorf("%s: %w: %s; delete it and make it again", f.path(ref), ErrCorrupt, what)
}

// makeFolder makes one folder below blobs, durably.
func (f *Files) makeFolder(path string) error {
	switch err := os.Mkdir(path, 0o750); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return syncFolder(f.blobs)
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
