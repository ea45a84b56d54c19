package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/dreamood/dreamood/internal/bucket"
)

// place is a folder, as an absolute path, or the URL of a part of a bucket.
type place string

// UnmarshalText makes paths absolute.
func (p *place) UnmarshalText(text []byte) error {
	*p = place(text)
	if strings.HasPrefix(string(text), bucket.Scheme) {
		_, _, err := bucket.Parse(string(text))
		return err
	}
	if strings.Contains(string(text), "://") {
		return fmt.Errorf("%q: want a folder or s3://BUCKET/PREFIX", text)
	}
	*p = place(kong.ExpandPath(string(text)))
	return nil
}

// destination is where an export is written. Every file appears whole or not at all, and the manifest last.
type destination interface {
	fmt.Stringer
	write(ctx context.Context, name string, data []byte) error
	scratch(name string) (*os.File, error) // a file that place puts under its name, or discard removes
	place(ctx context.Context, name string, file *os.File) error
	discard(name string, file *os.File)
	line(data []byte) error                              // of the manifest
	replaced(ctx context.Context) (io.ReadCloser, error) // the manifest of the export that this one replaces, or of one that was cut off; fs.ErrNotExist
	remove(ctx context.Context, name string) error       // none is no error
	complete(ctx context.Context) error
	close()
}

const (
	uploads        = 8              // at once
	abandonedAfter = 24 * time.Hour // when an upload that has not ended is that of an export that died
)

// bucketFolder writes an export below a prefix of a bucket, several files at once. What is there with the same content,
// from an export that was cut off, is not sent again.
type bucketFolder struct {
	*bucket.Bucket
	there    map[string]bucket.Info // when the export began
	manifest *os.File               // until it is complete
	group    *errgroup.Group
	ctx      context.Context // of the group
	cancel   context.CancelFunc
}

func openBucket(ctx context.Context, url string, replace bool) (*bucketFolder, error) {
	b, err := bucket.Open(ctx, url, bucket.Config{})
	if err != nil {
		return nil, err
	}
	f := &bucketFolder{Bucket: b, there: map[string]bucket.Info{}}
	for info, err := range b.List(ctx, "") {
		if err != nil {
			b.Close()
			return nil, err
		}
		f.there[info.Name] = info
	}
	if _, done := f.there[manifestName]; done && !replace {
		b.Close()
		return nil, usage("%s already holds an export; choose another place, or replace it with --force", url)
	} else if done {
		if err = b.Copy(ctx, manifestName, manifestName+replacedSuffix); err == nil {
			err = b.Remove(ctx, manifestName)
		}
	}
	if err == nil {
		f.manifest, err = unnamed()
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	if _, _, err := b.Abandoned(ctx, "", time.Now().Add(-abandonedAfter), false); err != nil {
		f.manifest.Close()
		b.Close()
		return nil, err
	}
	ctx, f.cancel = context.WithCancel(ctx)
	f.group, f.ctx = errgroup.WithContext(ctx)
	f.group.SetLimit(uploads)
	return f, nil
}

// unnamed is a temporary file that is gone when it is closed.
func unnamed() (*os.File, error) {
	file, err := os.CreateTemp("", "dreamood-export-*")
	if err == nil {
		_ = os.Remove(file.Name()) // where an open file cannot be removed, it stays in the folder for temporary files
	}
	return file, err
}

func (f *bucketFolder) write(_ context.Context, name string, data []byte) error {
	f.send(name, bytes.NewReader(data), func() {})
	return f.failure()
}

func (f *bucketFolder) scratch(string) (*os.File, error) { return unnamed() }

func (f *bucketFolder) place(_ context.Context, name string, file *os.File) error {
	f.send(name, file, func() { file.Close() })
	return f.failure()
}

func (f *bucketFolder) discard(_ string, file *os.File) { file.Close() }

func (f *bucketFolder) replaced(ctx context.Context) (io.ReadCloser, error) {
	r, _, err := f.Open(ctx, manifestName+replacedSuffix)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, fs.ErrNotExist
	}
	return r, err
}

func (f *bucketFolder) remove(ctx context.Context, name string) error { return f.Remove(ctx, name) }

// send uploads what is not there yet, when one of the uploads under way has ended.
func (f *bucketFolder) send(name string, r io.ReadSeeker, done func()) {
	f.group.Go(func() error {
		defer done()
		size, err := r.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if info, ok := f.there[name]; ok && info.Size == size {
			tag, err := bucket.ETagOf(r, size)
			if err == nil && tag == info.ETag {
				return nil
			}
			if _, err := r.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
		return f.Put(f.ctx, name, r, size)
	})
}

// failure is that of an upload before, so that an export does not go on for long after one.
func (f *bucketFolder) failure() error {
	if f.ctx.Err() == nil {
		return nil
	}
	return f.group.Wait()
}

func (f *bucketFolder) line(data []byte) error {
	_, err := f.manifest.Write(data)
	return err
}

// complete waits for all files, and then writes the manifest.
func (f *bucketFolder) complete(ctx context.Context) error {
	if err := f.group.Wait(); err != nil {
		return err
	}
	size, err := f.manifest.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.manifest.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	return f.Put(ctx, manifestName, f.manifest, size)
}

func (f *bucketFolder) close() {
	f.cancel()
	if err := f.group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		_ = err // said before, or of no interest after another error
	}
	f.manifest.Close()
	f.Close()
}
