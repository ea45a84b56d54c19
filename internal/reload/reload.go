// Package reload keeps values that are made of files, such as certificates and lists of tokens, up to date with them.
package reload

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// every is how old a value may be when it is asked for.
	every = time.Second
	// maxFile bounds what is read of one file, in bytes.
	maxFile = 4 << 20
)

// Value is made of the contents of files, and made again when they have changed. Files are looked at when the value is
// asked for, at most once a second, so nothing runs in the background. It is safe for concurrent use.
type Value[T any] struct {
	paths  []string
	build  func(contents [][]byte) (T, error)
	failed func(error)

	mu      sync.Mutex
	checked time.Time
	value   T
	of      [][]byte // contents that value was made of
	bad     string   // what failed was told last
}

// New makes the value for the first time; its error is that of a file or of build. Later, a file that cannot be read or
// used leaves the value as it is, and failed is told once.
func New[T any](paths []string, build func(contents [][]byte) (T, error), failed func(error)) (*Value[T], error) {
	v := &Value[T]{paths: paths, build: build, failed: failed}
	contents, err := v.read()
	if err != nil {
		return nil, err
	}
	if v.value, err = build(contents); err != nil {
		return nil, err
	}
	v.of, v.checked = contents, time.Now()
	return v, nil
}

// Get returns the value.
func (v *Value[T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.checked) < every {
		return v.value
	}
	v.checked = time.Now()
	contents, err := v.read()
	if err == nil && slices.EqualFunc(contents, v.of, bytes.Equal) {
		v.bad = ""
		return v.value
	}
	if err == nil {
		var value T
		if value, err = v.build(contents); err == nil {
			v.value, v.of, v.bad = value, contents, ""
			return v.value
		}
	}
	if v.bad != err.Error() {
		v.bad = err.Error()
		v.failed(err)
	}
	return v.value
}

func (v *Value[T]) read() ([][]byte, error) {
	contents := make([][]byte, len(v.paths))
	for i, path := range v.paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		contents[i], err = io.ReadAll(io.LimitReader(f, maxFile+1))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if len(contents[i]) > maxFile {
			return nil, fmt.Errorf("read %s: larger than %d bytes", path, maxFile)
		}
	}
	return contents, nil
}
