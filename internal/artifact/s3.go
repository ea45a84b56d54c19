package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/bucket"
)

// Objects is a Store in an S3 bucket, with the names that Files has:
//
//	blobs/sha256/ab/abcdef…   one object per blob
//	blobs/trash/abcdef…       what nothing names: Sweep puts it there, and Open brings it back
//
// An object appears whole or not at all, so there is no blobs/tmp. What is larger than a few parts waits in a local
// folder until its name is known.
type Objects struct {
	bucket *bucket.Bucket
	spool  string
}

const (
	freshFor    = 5 * time.Minute
	blobPrefix  = "blobs/sha256/"
	trashPrefix = "blobs/trash/"
)

// NewObjects is the store in a bucket. spool is a local folder for what is being written; "" is the system's.
func NewObjects(b *bucket.Bucket, spool string) *Objects { return &Objects{b, spool} }

// Put stores what r yields; see Store. What was put within the last minutes is not sent again; anything else is, since
// that alone makes an object young on every server.
func (s *Objects) Put(ctx context.Context, r io.Reader) (Ref, error) {
	head, err := io.ReadAll(io.LimitReader(contextReader{ctx, r}, smallBlob+1))
	if err != nil {
		return "", fmt.Errorf("read the blob to store: %w", err)
	}
	if len(head) <= smallBlob {
		return s.send(ctx, bytes.NewReader(head), RefOf(head), int64(len(head)))
	}
	file, err := os.CreateTemp(s.spool, "dreamood-put-*")
	if err != nil {
		return "", fmt.Errorf("store blob: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, digest), contextReader{ctx, io.MultiReader(bytes.NewReader(head), r)})
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return "", fmt.Errorf("store blob by way of %s: %w", file.Name(), err)
	}
	return s.send(ctx, file, refOfSum(digest.Sum(nil)), size)
}

func (s *Objects) send(ctx context.Context, r io.Reader, ref Ref, size int64) (Ref, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	name := s.name(ref)
	if info, err := s.bucket.Stat(ctx, name); err == nil && info.Size == size && time.Since(info.Modified) < freshFor {
		return ref, nil
	}
	if err := s.bucket.Put(ctx, name, r, size); err != nil {
		return "", fmt.Errorf("store %s: %w", ref, err)
	}
	return ref, nil
}

// Open reads a blob; see Store.
func (s *Objects) Open(ctx context.Context, ref Ref) (io.ReadCloser, error) {
	size, err := s.Stat(ctx, ref) // brings it back from the trash
	if err != nil {
		return nil, err
	}
	name := s.name(ref)
	body, _, err := s.bucket.Open(ctx, name)
	if err != nil {
		return nil, s.missing(ref, err)
	}
	return &verifier{name: s.bucket.String() + "/" + name, closer: body, body: contextReader{ctx, body}, ref: ref, size: size, digest: sha256.New()}, nil
}

// Stat returns the size in bytes; see Store.
func (s *Objects) Stat(ctx context.Context, ref Ref) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if _, err := Parse(string(ref)); err != nil {
		return 0, err
	}
	info, err := s.bucket.Stat(ctx, s.name(ref))
	for range recalls {
		if !errors.Is(err, bucket.ErrNotFound) {
			break
		}
		if recall := s.recall(ctx, ref); recall != nil && !errors.Is(recall, bucket.ErrNotFound) {
			return 0, recall
		}
		before := err
		if info, err = s.bucket.Stat(ctx, s.name(ref)); errors.Is(err, bucket.ErrNotFound) {
			err = before
			break // neither here nor in the trash
		}
	}
	if err != nil {
		return 0, s.missing(ref, err)
	}
	if info.Size == 0 && ref != RefOf(nil) {
		return 0, fmt.Errorf("%s/%s: %w: the object is empty; delete it and make it again", s.bucket, s.name(ref), ErrCorrupt)
	}
	return info.Size, nil
}

// recall copies a blob back from the trash. The copy there goes with a later sweep.
func (s *Objects) recall(ctx context.Context, ref Ref) error {
	return s.bucket.Copy(ctx, trashPrefix+ref.Hex(), s.name(ref))
}

func (s *Objects) name(ref Ref) string {
	digits := ref.Hex()
	return blobPrefix + digits[:2] + "/" + digits
}

// refOf is the blob of an object's name; false for objects that are none.
func (s *Objects) refOf(name string) (Ref, bool) {
	ref, err := Parse(scheme + name[strings.LastIndexByte(name, '/')+1:])
	return ref, err == nil && (s.name(ref) == name || trashPrefix+ref.Hex() == name)
}

func (s *Objects) missing(ref Ref, err error) error {
	if errors.Is(err, bucket.ErrNotFound) {
		return fmt.Errorf("%s in %s: %w", ref, s.bucket, ErrNotFound)
	}
	return fmt.Errorf("open %s: %w", ref, err)
}
