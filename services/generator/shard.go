package generator

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/artifact"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// shard writes a tar file in the order that WebDataset reads: for every picture its record `class/index.json`, then
// `class/index.png`. The same pictures give the same bytes.
type shard struct{ w *tar.Writer }

func newShard(w io.Writer) shard { return shard{tar.NewWriter(w)} }

func (s shard) add(p *generatorv1.Picture) error {
	record, err := protojson.Marshal(p.Record)
	if err != nil {
		return err
	}
	// protojson varies its white space on purpose; the shard must not.
	var line bytes.Buffer
	if err := json.Compact(&line, record); err != nil {
		return err
	}
	name := p.Record.File[:len(p.Record.File)-len(".png")]
	return errors.Join(s.file(name+".json", line.Bytes()), s.file(name+".png", p.Png))
}

func (s shard) file(name string, data []byte) error {
	err := s.w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644, ModTime: time.Unix(0, 0)})
	if err == nil {
		_, err = s.w.Write(data)
	}
	return err
}

func (s shard) close() error { return s.w.Close() }

// maxRecord and maxPicture bound what is read of a shard, in bytes.
const (
	maxRecord  = 1 << 20
	maxPicture = 64 << 20
)

// readShard hands over the pictures of a shard in order.
func (s *Service) readShard(ctx context.Context, ref string, yield func(*generatorv1.Picture) error) error {
	blob, err := s.deps.Blobs.Open(ctx, artifact.Ref(ref))
	if err != nil {
		return err
	}
	defer blob.Close()
	r := tar.NewReader(blob)
	for {
		raw, err := next(r, maxRecord)
		if errors.Is(err, io.EOF) {
			// Reads the rest, so that the blob's digest is verified.
			_, err := io.Copy(io.Discard, blob)
			return err
		}
		if err != nil {
			return fmt.Errorf("shard %s: %w", ref, err)
		}
		record := &generatorv1.PictureRecord{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, record); err != nil {
			return fmt.Errorf("shard %s: %w", ref, err)
		}
		png, err := next(r, maxPicture)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the picture of the last record is missing
		}
		if err != nil {
			return fmt.Errorf("shard %s: picture %s: %w", ref, record.File, err)
		}
		if err := yield(&generatorv1.Picture{Png: png, Record: record}); err != nil {
			return err
		}
	}
}

// next reads the next file of a tar.
func next(r *tar.Reader, limit int64) ([]byte, error) {
	h, err := r.Next()
	if err != nil {
		return nil, err
	}
	if h.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", h.Name, h.Size, limit)
	}
	return io.ReadAll(r)
}
