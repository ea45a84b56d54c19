package modelstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/ood"
)

// Store is a folder of models.
type Store struct {
	dir string
	// Waiting, if set, is told when another process changes the same name.
	Waiting func(name string)
	// Grace is how long a version that was replaced is kept for servers that have not looked yet; default 1 h.
	Grace time.Duration
}

// Open names the folder of a store. It is made when something is added.
func Open(dir string) *Store { return &Store{dir: dir, Grace: time.Hour} }

// Errors of names.
var (
	ErrNotFound = errors.New("there is no such model")
	ErrExists   = errors.New("there is a model of that name")
	ErrForeign  = errors.New("the folder was put there by hand")
)

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }
func (s *Store) inner(names ...string) string {
	return filepath.Join(append([]string{s.dir, ".store"}, names...)...)
}

func checkName(name string) error {
	if !ood.ValidID(name) {
		return fmt.Errorf("%q is no name of a model; want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", name)
	}
	return nil
}

// Entry is a model of the folder.
type Entry struct {
	Name        string
	Dir         string    // of its files
	Manifest    *Manifest // nil for a folder that was put there by hand
	Description diffusion.Description
	Err         error // why it cannot be used
}

// List returns the models by name, those that cannot be used too. All of their files are read.
func (s *Store) List() ([]Entry, error) {
	found, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, e := range found {
		if !ood.ValidID(e.Name()) {
			continue
		}
		if stat, err := os.Stat(s.path(e.Name())); err == nil && !stat.IsDir() {
			continue
		}
		list = append(list, s.look(e.Name()))
	}
	return list, nil
}

func (s *Store) look(name string) Entry {
	e := Entry{Name: name}
	if e.Dir, e.Err = filepath.EvalSymlinks(s.path(name)); e.Err != nil {
		return e
	}
	m, err := ReadManifest(e.Dir)
	switch {
	case err == nil:
		e.Manifest = &m
	case !errors.Is(err, fs.ErrNotExist):
		e.Err = err
		return e
	}
	e.Description, e.Err = diffusion.Describe(e.Dir)
	return e
}

// own returns the version that a name of the store leads to; "" where the name is free.
func (s *Store) own(name string) (string, error) {
	stat, err := os.Lstat(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if stat.Mode()&fs.ModeSymlink != 0 {
		to, err := os.Readlink(s.path(name))
		if err != nil {
			return "", err
		}
		if rel, err := filepath.Rel(filepath.Join(".store", "versions"), to); err == nil && filepath.IsLocal(rel) {
			return filepath.Join(s.dir, to), nil
		}
	}
	return "", fmt.Errorf("%s: %w: move or remove it yourself", s.path(name), ErrForeign)
}

// free refuses a name that is taken, unless what it leads to may be replaced.
func (s *Store) free(name string, replace bool) error {
	if err := checkName(name); err != nil {
		return err
	}
	dir, err := s.own(name)
	if err == nil && dir != "" && !replace {
		err = fmt.Errorf("%s: %w; it can be replaced", s.path(name), ErrExists)
	}
	return err
}

// Remove takes a model that the store made out of the folder. Servers that have loaded it stop to offer it.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := s.own(name)
	if err != nil {
		return err
	}
	if dir == "" {
		return fmt.Errorf("%s: %w", s.path(name), ErrNotFound)
	}
	if err := errors.Join(os.Remove(s.path(name)), syncDir(s.dir)); err != nil {
		return err
	}
	return s.prune(name, 0)
}

// publish gives a whole model in a folder of the store its manifest and its name. files may lack what is not listed yet.
func (s *Store) publish(name, dir string, source Source, files []File) (Manifest, error) {
	m := Manifest{Version: 1, Source: source, Added: time.Now().UTC().Truncate(time.Second), Files: files}
	if _, err := diffusion.Describe(dir); err != nil {
		return m, err
	}
	var err error
	if m.Digest, err = diffusion.Digest(dir); err != nil {
		return m, err
	}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	if err := errors.Join(m.write(dir), syncTree(dir), os.MkdirAll(s.inner("versions"), 0o755)); err != nil {
		return m, err
	}
	version, err := os.MkdirTemp(s.inner("versions"), fmt.Sprintf("%s@%.12s-", name, m.Digest))
	if err != nil {
		return m, err
	}
	// The folder served to find a name that is free; others of this model come only after the lock.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Remove(version), os.Rename(dir, version)); err != nil {
		return m, err
	}
	if err := syncDir(s.inner("versions")); err != nil {
		return m, err
	}
	if err := s.point(name, version); err != nil {
		return m, err
	}
	return m, s.prune(name, s.Grace)
}

// point makes a name lead to a version, in one step.
func (s *Store) point(name, version string) error {
	if old, err := s.own(name); err != nil {
		return err
	} else if old != "" { // its time of being replaced
		now := time.Now()
		os.Chtimes(old, now, now)
	}
	to, err := filepath.Rel(s.dir, version)
	if err != nil {
		return err
	}
	link := s.inner(name + ".link")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(to, link); err != nil {
		return err
	}
	if err := os.Rename(link, s.path(name)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// prune removes versions of a name that were replaced some time ago. The caller holds the lock.
func (s *Store) prune(name string, grace time.Duration) error {
	current, err := s.own(name)
	if err != nil {
		return err
	}
	versions, err := filepath.Glob(filepath.Join(s.inner("versions"), name+"@*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range versions {
		stat, err := os.Stat(v)
		if err == nil && (current == "" || filepath.Base(v) != filepath.Base(current)) && time.Since(stat.ModTime()) >= grace {
			errs = append(errs, os.RemoveAll(v))
		}
	}
	return errors.Join(errs...)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncTree syncs the folders below dir, and dir.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = syncDir(path)
		}
		return err
	})
}
