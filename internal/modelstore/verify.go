package modelstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dreamood/dreamood/internal/diffusion"
)

// Difference is a file that is not what the manifest says.
type Difference struct {
	Path    string // slash-separated, relative to the model's folder; "" is the model as a whole
	Problem string
}

// Verify reads all files of a model again and returns what is not as it was when it came into the store. For a folder
// that was put there by hand, which has no manifest, it says whether the model can be used. The digest is that of the
// files as they are, "" where they are no model.
func (s *Store) Verify(ctx context.Context, name string, progress func(file string, done, total int64)) (digest string, list []Difference, err error) {
	if err := checkName(name); err != nil {
		return "", nil, err
	}
	dir, err := filepath.EvalSymlinks(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("%s: %w", s.path(name), ErrNotFound)
	}
	if err != nil {
		return "", nil, err
	}
	m, err := ReadManifest(dir)
	if err == nil {
		if list, err = m.compare(ctx, dir, progress); err != nil {
			return "", nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		list = append(list, Difference{manifestFile, err.Error()})
	}
	if _, err := diffusion.Describe(dir); err != nil {
		return "", append(list, Difference{"", err.Error()}), nil
	}
	digest, err = diffusion.Digest(dir)
	if err == nil && m.Digest != "" && digest != m.Digest && len(list) == 0 {
		list = append(list, Difference{"", fmt.Sprintf("its digest is %s, the manifest says %s", digest, m.Digest)})
	}
	return digest, list, err
}

func (m Manifest) compare(ctx context.Context, dir string, progress func(string, int64, int64)) (list []Difference, err error) {
	var done, total int64
	known := map[string]bool{manifestFile: true}
	for _, f := range m.Files {
		total += f.Bytes
	}
	for _, f := range m.Files {
		known[f.Path] = true
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if progress != nil {
			progress(f.Path, done, total)
		}
		if problem := f.differs(filepath.Join(dir, filepath.FromSlash(f.Path))); problem != "" {
			list = append(list, Difference{f.Path, problem})
		}
		done += f.Bytes
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if name := filepath.ToSlash(rel); err == nil && !known[name] {
			list = append(list, Difference{name, "is not in the manifest"})
		}
		return err
	})
	return list, err
}

// differs says how a file differs from what it should be, or "".
func (f File) differs(path string) string {
	stat, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing"
	case err != nil:
		return err.Error()
	case !stat.Mode().IsRegular():
		return "is not a regular file"
	case stat.Size() != f.Bytes:
		return fmt.Sprintf("has %d bytes, want %d", stat.Size(), f.Bytes)
	}
	got, err := sumFile(path)
	if err != nil {
		return err.Error()
	}
	if got.SHA256 != f.SHA256 {
		return fmt.Sprintf("has sha256 %s, want %s", got.SHA256, f.SHA256)
	}
	return ""
}

// sumFile measures a file.
func sumFile(path string) (f File, err error) {
	file, err := os.Open(path)
	if err != nil {
		return f, err
	}
	defer file.Close()
	h := sha256.New()
	f.Bytes, err = io.Copy(h, file)
	f.SHA256 = hex.EncodeToString(h.Sum(nil))
	return f, err
}
