package sampler

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/npy"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// source is where the banks of a space come from: the blob, mapped into memory, where the role's own store has it, or
// else the embedder's stream. Rows of a mapped blob must not be used after the source is out of reach: see hold.
type source struct {
	service *Service
	space   *embedderv1.Space
	blob    *artifact.Mapping // nil where banks are streamed
	rows    matrix.Matrix     // [N, D] of the blob, class after class
	starts  []int             // first row of every class, and N
}

// source looks where the banks of a space are.
func (s *Service) source(ctx context.Context, space *embedderv1.Space) (source, error) {
	src := source{service: s, space: space, starts: []int{0}}
	for i, c := range space.Classes {
		src.starts = append(src.starts, src.starts[i]+int(c.Count))
	}
	store, ok := s.deps.Blobs.(artifact.Mapper)
	if !ok {
		return src, nil
	}
	blob, err := store.Map(ctx, artifact.Ref(space.Bank))
	if errors.Is(err, artifact.ErrNotFound) {
		return src, nil
	}
	if err != nil {
		return source{}, fmt.Errorf("bank of %s: %w", space.Name, err)
	}
	data, shape, err := npy.View(blob.Bytes())
	if err != nil {
		return source{}, fmt.Errorf("bank of %s, %s: %w", space.Name, space.Bank, err)
	}
	n, d := src.starts[len(space.Classes)], int(space.Dimension)
	if len(shape) != 2 || shape[0] != n || shape[1] != d {
		return source{}, fmt.Errorf("bank of %s, %s: it has shape %v, and the classes have [%d, %d] in all; train the space again", space.Name, space.Bank, shape, n, d)
	}
	src.blob, src.rows = blob, matrix.Matrix{Rows: n, Cols: d, Data: data}
	return src, nil
}

// hold keeps a mapped blob until here.
func (src source) hold() { runtime.KeepAlive(src.blob) }

// mapped is the bank of a class in the blob.
func (src source) mapped(label int) matrix.Matrix {
	from, to := src.starts[label], src.starts[label+1]
	d := src.rows.Cols
	return matrix.Matrix{Rows: to - from, Cols: d, Data: src.rows.Data[from*d : to*d : to*d]}
}

// bank is the bank of one class.
func (src source) bank(ctx context.Context, c class) (matrix.Matrix, error) {
	if src.blob == nil {
		return src.service.bank(ctx, c)
	}
	m := src.mapped(c.label)
	if m.Rows == 0 {
		return m, fmt.Errorf("bank of %s, class %s: it has no rows", src.space.Name, c.info().Name)
	}
	return m, nil
}

// all are the banks of all classes, in label order.
func (src source) all(ctx context.Context) ([]matrix.Matrix, error) {
	if src.blob == nil {
		return src.service.all(ctx, src.space)
	}
	list := make([]matrix.Matrix, len(src.space.Classes))
	for label := range list {
		list[label] = src.mapped(label)
	}
	return list, nil
}

// each hands over the banks of all classes, in label order.
func (src source) each(ctx context.Context, yield func(label int, bank matrix.Matrix) error) error {
	if src.blob == nil {
		return src.service.each(ctx, src.space, yield)
	}
	defer src.hold()
	for label := range src.space.Classes {
		if err := yield(label, src.mapped(label)); err != nil {
			return err
		}
	}
	return nil
}

// holding is a sampler that may use rows of the source: while it is in reach, the blob is.
func (src source) holding(s Sampler) Sampler {
	if src.blob == nil {
		return s
	}
	return held{s, src.blob}
}

// held is a sampler on rows of a mapped blob.
type held struct {
	Sampler
	blob *artifact.Mapping
}

// Sample implements [Sampler].
func (h held) Sample(ctx context.Context, r Range, yield func(Outlier) error) error {
	defer runtime.KeepAlive(h.blob)
	return h.Sampler.Sample(ctx, r, yield)
}
