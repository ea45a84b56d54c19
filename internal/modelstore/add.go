package modelstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/diffusion"
)

// extras are kept beside the files of a model where they are there: what may be done with it, and what it is.
var extras = []string{"LICENSE", "LICENSE.md", "LICENSE.txt", "README.md"}

// Options of Add and Pull.
type Options struct {
	Replace bool // a model of that name, which serves until the new one is whole
	// Progress, if set, is told how many of all bytes are there; total may grow.
	Progress func(file string, done, total int64)
}

func (o Options) progress(file string, done, total int64) {
	if o.Progress != nil {
		o.Progress(file, done, total)
	}
}

// Add copies the model in a folder into the store. Links of the folder are followed within it; those of a snapshot in
// the cache of the Hugging Face Hub within the cache of its repository.
func (s *Store) Add(ctx context.Context, name, folder string, o Options) (Manifest, error) {
	if err := s.free(name, o.Replace); err != nil {
		return Manifest{}, err
	}
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return Manifest{}, err
	}
	defer unlock()
	if err := s.free(name, o.Replace); err != nil { // while the lock was waited for
		return Manifest{}, err
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return Manifest{}, err
	}
	names, total, err := survey(folder)
	if err != nil {
		return Manifest{}, fmt.Errorf("add %s: %w", folder, err)
	}
	if err := s.room(total); err != nil {
		return Manifest{}, fmt.Errorf("add %s: %w", folder, err)
	}
	tmp, err := s.temporary(name)
	if err != nil {
		return Manifest{}, err
	}
	defer os.RemoveAll(tmp) // renamed when all went well
	var files []File
	done := int64(0)
	for _, file := range names {
		f, err := copyFile(ctx, filepath.Join(folder, filepath.FromSlash(file)), filepath.Join(tmp, filepath.FromSlash(file)), func(n int64) {
			o.progress(file, done+n, total)
		})
		if err != nil {
			return Manifest{}, fmt.Errorf("add %s: %w", folder, err)
		}
		f.Path = file
		done += f.Bytes
		files = append(files, f)
	}
	m, err := s.publish(name, tmp, Source{Folder: folder}, files)
	if err != nil {
		err = fmt.Errorf("add %s: %w", folder, err)
	}
	return m, err
}

// temporary makes an empty folder for a name, and removes what a process that died left of it.
func (s *Store) temporary(name string) (string, error) {
	left, err := filepath.Glob(s.inner(name + ".tmp-*"))
	if err != nil {
		return "", err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(s.inner(), name+".tmp-")
}

// survey names the files of the model in a folder and adds up their sizes.
func survey(folder string) (names []string, total int64, err error) {
	root, err := rootOf(folder)
	if err != nil {
		return nil, 0, err
	}
	look := func(name string, required bool) error {
		stat, err := diffusion.StatInside(root, filepath.Join(folder, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) && !required {
			return nil
		}
		if err != nil {
			return err
		}
		names, total = append(names, name), total+stat.Size()
		return nil
	}
	var errs []error
	wanted := diffusion.Wanted()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		errs = append(errs, look(name, wanted[name]))
	}
	for _, name := range extras {
		errs = append(errs, look(name, false))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, 0, err
	}
	for _, name := range slices.Clone(names) {
		if strings.HasSuffix(name, ".onnx") {
			external, err := diffusion.ExternalData(folder, name)
			if err != nil {
				return nil, 0, err
			}
			for _, file := range external {
				if !slices.Contains(names, file) {
					if err := look(file, true); err != nil {
						return nil, 0, err
					}
				}
			}
		}
	}
	slices.Sort(names)
	return names, total, nil
}

// rootOf is the folder that links of a model, in an absolute folder, may not leave. The snapshots of the hub's cache, models--*/snapshots/*,
// link to models--*/blobs.
func rootOf(folder string) (string, error) {
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return "", err
	}
	snapshots := filepath.Dir(real)
	if repo := filepath.Dir(snapshots); filepath.Base(snapshots) == "snapshots" && strings.HasPrefix(filepath.Base(repo), "models--") {
		return repo, nil
	}
	return real, nil
}

// copyFile copies, syncs and sums a file.
func copyFile(ctx context.Context, from, to string, progress func(done int64)) (f File, err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return f, err
	}
	in, err := os.Open(from)
	if err != nil {
		return f, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return f, err
	}
	defer out.Close()
	sum, buffer := sha256.New(), make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return f, ctx.Err()
		}
		n, err := in.Read(buffer)
		sum.Write(buffer[:n])
		if _, err := out.Write(buffer[:n]); err != nil {
			return f, err
		}
		f.Bytes += int64(n)
		progress(f.Bytes)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, fmt.Errorf("read %s: %w", from, err)
		}
	}
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return f, errors.Join(out.Sync(), out.Close())
}
