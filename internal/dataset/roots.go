package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Roots are the folders inside which a server reads datasets. Paths that clients name are resolved against them,
// links included, and never leave them.
type Roots []string

// Resolve is the real path of a dataset that a client named: absolute, or relative to one of the roots.
func (r Roots) Resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("no path was given; name a folder or archive of pictures")
	}
	if strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("%q is no path", path)
	}
	candidates := []string{path}
	if !filepath.IsAbs(path) {
		candidates = nil
		for _, root := range r {
			if base, err := filepath.Abs(root); err == nil {
				candidates = append(candidates, filepath.Join(base, path))
			}
		}
	}
	inside := false
	for _, c := range candidates {
		real, err := filepath.EvalSymlinks(c)
		if err == nil && r.contain(real) {
			return real, nil
		}
		absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) // below a file there is nothing
		inside = inside || absent && r.missing(filepath.Clean(c))
	}
	if inside {
		return "", fmt.Errorf("%s does not exist on the server (dataset roots: %s)", path, strings.Join(r, ", "))
	}
	// The same for what is there and what is not: a client learns nothing of paths outside.
	return "", fmt.Errorf("%s lies outside the dataset roots (%s); start the server with --dataset-root for its folder", path, strings.Join(r, ", "))
}

// missing reports whether a path that is not there would lie inside: the deepest folder above it that exists does. A
// link that leads nowhere says nothing, since only its target, inside or not, is missing.
func (r Roots) missing(path string) bool {
	for dir := path; ; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return r.contain(real)
		}
		if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
			return false
		}
	}
}

func (r Roots) contain(real string) bool {
	for _, root := range r {
		base, err := filepath.Abs(root)
		if err != nil {
			continue
		}
		if rel, err := filepath.Rel(base, real); err == nil && filepath.IsLocal(rel) {
			return true
		}
		if base, err = filepath.EvalSymlinks(base); err != nil {
			continue
		}
		if rel, err := filepath.Rel(base, real); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}
