package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bucket"
	"github.com/dreamood/dreamood/internal/gc"
	"github.com/dreamood/dreamood/internal/telemetry"
)

// openBlobs opens the store of blobs: the data folder, or the bucket that Config.Store names. What goes to the bucket
// waits in the data folder until its name is known.
func (a *App) openBlobs(ctx context.Context) (gc.Store, error) {
	if a.cfg.Store == "" {
		files, err := artifact.NewFiles(a.cfg.Data)
		if err != nil {
			return nil, err
		}
		a.blobs, a.free = a.counted(files), files.Free
		return files, nil
	}
	spool := filepath.Join(a.cfg.Data, "spool")
	if err := os.MkdirAll(spool, 0o750); err != nil {
		return nil, fmt.Errorf("folder of blobs on their way: %w", err)
	}
	b, err := bucket.Open(ctx, a.cfg.Store, bucket.Config{})
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	a.closers = append(a.closers, func() error { b.Close(); return nil })
	objects := artifact.NewObjects(b, spool)
	a.blobs = a.counted(objects)
	return objects, nil
}

// checkStore says what is wrong with a place for blobs, nil for none.
func checkStore(store string) error {
	if store == "" {
		return nil
	}
	if !strings.HasPrefix(store, bucket.Scheme) {
		return errors.New("want s3://BUCKET/PREFIX; leave it away to keep blobs in the data folder")
	}
	_, _, err := bucket.Parse(store)
	return err
}

// counted is the store whose blobs are counted. One that can be mapped still can.
func (a *App) counted(store artifact.Store) artifact.Store {
	if a.metrics == nil {
		return store
	}
	counted := countedStore{store, a.metrics}
	if m, ok := store.(artifact.Mapper); ok {
		return countedMapper{counted, m}
	}
	return counted
}

type countedStore struct {
	artifact.Store
	metrics *telemetry.Metrics
}

func (s countedStore) Put(ctx context.Context, r io.Reader) (artifact.Ref, error) {
	ref, err := s.Store.Put(ctx, r)
	if err != nil {
		return ref, err
	}
	if size, err := s.Stat(ctx, ref); err == nil {
		s.metrics.Blob(size)
	}
	return ref, nil
}

type countedMapper struct {
	countedStore
	mapper artifact.Mapper
}

func (s countedMapper) Map(ctx context.Context, ref artifact.Ref) (*artifact.Mapping, error) {
	return s.mapper.Map(ctx, ref)
}
