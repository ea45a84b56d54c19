package sampler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/npy"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// writeShard stores the rows that sample adds, rows of them with dim numbers each, and their records. Embeddings go to
// the store as they come; records, 32 bytes for each, are held until the end. The same rows give the same blobs.
func writeShard(ctx context.Context, store artifact.Store, rows, dim int, sample func(add func(Outlier) error) error) (*samplerv1.EmbeddingShard, error) {
	records := npy.RecordHeader(recordFields, rows)
	embeddings, err := putStream(ctx, store, func(w io.Writer) error {
		a, err := npy.NewWriter(w, rows, dim)
		if err != nil {
			return err
		}
		err = sample(func(o Outlier) error {
			records = appendRecord(records, o)
			return a.Append(o.Embedding)
		})
		if err != nil {
			return err
		}
		return a.Close()
	})
	if err != nil {
		return nil, err
	}
	ref, err := artifact.PutBytes(ctx, store, records)
	if err != nil {
		return nil, err
	}
	return &samplerv1.EmbeddingShard{Embeddings: string(embeddings), Records: string(ref), Count: int32(rows)}, nil
}

// putStream stores what write writes; the error of write goes before the store's.
func putStream(ctx context.Context, store artifact.Store, write func(io.Writer) error) (artifact.Ref, error) {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err) // nil is the end of the blob
		written <- err
	}()
	ref, err := store.Put(ctx, r)
	r.CloseWithError(err) // a store that gave up ends the writing
	failed := <-written
	if failed != nil && (err == nil || errors.Is(err, failed)) {
		err = failed
	}
	return ref, err
}

// shardReader reads the rows of a shard in order.
type shardReader struct {
	blobs   []io.ReadCloser // embeddings, records
	values  *npy.Reader
	records io.Reader
	dim     int
	ref     string
}

// openShard opens a shard of rows with dim numbers each.
func openShard(ctx context.Context, store artifact.Store, shard *samplerv1.EmbeddingShard, dim int) (_ *shardReader, err error) {
	r := &shardReader{dim: dim, ref: shard.Embeddings}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, ref := range []string{shard.Embeddings, shard.Records} {
		blob, err := store.Open(ctx, artifact.Ref(ref))
		if err != nil {
			return nil, err
		}
		r.blobs = append(r.blobs, blob)
	}
	if r.values, err = npy.NewReader(r.blobs[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", shard.Embeddings, err)
	}
	if shape := r.values.Shape(); len(shape) != 2 || shape[0] != int(shard.Count) || shape[1] != dim {
		return nil, fmt.Errorf("%s has shape %v, and the set says [%d, %d]", shard.Embeddings, shape, shard.Count, dim)
	}
	r.records = r.blobs[1]
	want := npy.RecordHeader(recordFields, int(shard.Count))
	head := make([]byte, len(want))
	if _, err := io.ReadFull(r.records, head); err != nil || !bytes.Equal(head, want) {
		return nil, fmt.Errorf("%s does not hold the records of %d embeddings", shard.Records, shard.Count)
	}
	return r, nil
}

// next reads a row.
func (r *shardReader) next() (Outlier, error) {
	var record [recordBytes]byte
	if _, err := io.ReadFull(r.records, record[:]); err != nil {
		return Outlier{}, fmt.Errorf("records of %s: %w", r.ref, err)
	}
	o := recordOf(record[:])
	o.Embedding = make([]float32, r.dim)
	if err := r.values.Next(o.Embedding); err != nil {
		return Outlier{}, fmt.Errorf("%s: %w", r.ref, err)
	}
	return o, nil
}

// skip passes over n rows.
func (r *shardReader) skip(n int) error {
	if _, err := io.CopyN(io.Discard, r.records, int64(n)*recordBytes); err != nil {
		return fmt.Errorf("records of %s: %w", r.ref, err)
	}
	return r.values.Skip(n * r.dim)
}

// finish reads what is left, so that the digests are verified.
func (r *shardReader) finish() error {
	for _, blob := range r.blobs {
		if _, err := io.Copy(io.Discard, blob); err != nil {
			return err
		}
	}
	return nil
}

func (r *shardReader) close() {
	for _, blob := range r.blobs {
		blob.Close()
	}
}
