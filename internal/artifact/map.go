package artifact

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"weak"
)

// Mapper is a Store whose blobs can be used in place.
type Mapper interface {
	Store
	// Map returns a verified blob as memory. ErrNotFound when there is none, ErrCorrupt when it is not what its name
	// promises.
	Map(ctx context.Context, ref Ref) (*Mapping, error)
}

// Mapping is a blob as memory: on Unix the file itself, mapped read-only, whose pages the system loads when they are
// touched and drops when memory is short; elsewhere a copy.
//
// It lives as long as the Mapping is reachable, and the garbage collector unmaps it. Memory that is mapped does not keep
// its Mapping alive, so whoever works on the bytes says runtime.KeepAlive(mapping) when done.
//
// Writing to the bytes ends the process. So does touching them when somebody has cut the file short after it was mapped
// (SIGBUS), and bytes that are overwritten in place change under the reader. This package does neither: a blob is
// written elsewhere and renamed, and a file that is deleted or replaced leaves its mappings as they are.
type Mapping struct{ data []byte }

// Bytes are the blob, for reading only.
func (m *Mapping) Bytes() []byte { return m.data }

// mappings are the blobs of a store that have been mapped.
type mappings struct {
	mu   sync.Mutex
	refs map[Ref]*mapped
}

// mapped is what is known of one blob.
type mapped struct {
	busy     chan struct{}         // holds one token while somebody verifies or maps
	verified os.FileInfo           // the file as it was when its digest was checked; nil before
	live     weak.Pointer[Mapping] // the mapping that there may be
}

func (m *mappings) of(ref Ref) *mapped {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refs == nil {
		m.refs = map[Ref]*mapped{}
	}
	e := m.refs[ref]
	if e == nil {
		e = &mapped{busy: make(chan struct{}, 1)}
		m.refs[ref] = e
	}
	return e
}

// Map implements Mapper. All users of a blob share one mapping. The digest is checked when this store first maps a blob,
// and again only when another file lies in its place, or its size or time has changed.
func (f *Files) Map(ctx context.Context, ref Ref) (*Mapping, error) {
	if _, err := f.Stat(ctx, ref); err != nil {
		return nil, err
	}
	e := f.mappings.of(ref)
	select {
	case e.busy <- struct{}{}:
		defer func() { <-e.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	file, err := f.open(ref)
	if err != nil {
		return nil, f.explain(ref, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, f.explain(ref, err)
	}
	known := e.verified != nil && os.SameFile(e.verified, info) && e.verified.Size() == info.Size() && e.verified.ModTime().Equal(info.ModTime())
	if m := e.live.Value(); known && m != nil {
		return m, nil
	}
	if !known {
		v := &verifier{name: file.Name(), closer: file, body: contextReader{ctx, file}, ref: ref, size: info.Size(), digest: sha256.New()}
		if _, err := io.Copy(io.Discard, v); err != nil {
			return nil, err
		}
		e.verified = info
	}
	m, err := newMapping(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.path(ref), err)
	}
	e.live = weak.Make(m)
	return m, nil
}

func newMapping(file *os.File, size int64) (*Mapping, error) {
	if size == 0 { // which no system maps
		return &Mapping{}, nil
	}
	if int64(int(size)) != size {
		return nil, errors.New("it is larger than the address space")
	}
	data, unmap, err := mapFile(file, int(size))
	if err != nil {
		return nil, err
	}
	m := &Mapping{data}
	if unmap != nil {
		runtime.AddCleanup(m, unmap, data)
	}
	return m, nil
}
