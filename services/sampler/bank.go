package sampler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// errTrainedAgain says that the bank of a space is not the one that its document named a moment ago.
var errTrainedAgain = fault.New(fault.Unavailable, "the space was trained again while its bank was read; ask again")

// class is a class of a space as the embedder describes it now.
type class struct {
	space *embedderv1.Space // with the anchors
	label int
}

func (c class) info() *embedderv1.SpaceClass { return c.space.Classes[c.label] }

// anchors are the token embeddings of all classes of the space [C, D].
func (c class) anchors() matrix.Matrix {
	m := matrix.New(len(c.space.Classes), int(c.space.Dimension))
	for i, k := range c.space.Classes {
		copy(m.Row(i), k.Anchor)
	}
	return m
}

// describe asks the embedder which bank the space has now, and for its anchors. It costs one small message, so a class
// that is prepared already is never streamed again, and one that was trained again is noticed.
func (s *Service) describe(ctx context.Context, space, name string) (class, error) {
	var checks fault.Checks
	if _, err := ood.Spaces.ID(space); err != nil {
		checks.Add("space", "%v", err)
	}
	checks.That(name != "", "class", "is empty; name a class of %s", space)
	if err := checks.Err(); err != nil {
		return class{}, err
	}
	r, err := s.deps.Embedder.GetSpace(ctx, &embedderv1.GetSpaceRequest{Name: space})
	if err != nil {
		return class{}, err
	}
	var names []string
	for label, k := range r.Space.Classes {
		if len(k.Anchor) != int(r.Space.Dimension) {
			return class{}, fmt.Errorf("%s, class %s: an anchor of %d for %d dimensions", space, k.Name, len(k.Anchor), r.Space.Dimension)
		}
		if k.Name == name {
			return class{r.Space, label}, nil
		}
		names = append(names, k.Name)
	}
	return class{}, fault.New(fault.NotFound, "%s has no class %q; it has %s", space, name, strings.Join(names, ", "))
}

// stream hands over the banks of some classes of a space, or of all when none is named, one whole class after another.
// The matrices are the receiver's.
func (s *Service) stream(ctx context.Context, space *embedderv1.Space, yield func(label int, bank matrix.Matrix) error, names ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.deps.Embedder.StreamBank(ctx, &embedderv1.StreamBankRequest{Space: space.Name, Classes: names})
	if err != nil {
		return err
	}
	var m matrix.Matrix
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("bank of %s: %w", space.Name, err)
		}
		d := int(space.Dimension)
		switch {
		case p.Offset == 0 && p.Bank != space.Bank:
			return errTrainedAgain
		case int(p.Dimension) != d || len(p.Values)%d != 0 || int(p.Offset) != m.Rows || int(p.Label) >= len(space.Classes):
			return fmt.Errorf("bank of %s, class %s: a piece of %d values of %d dimensions at row %d does not follow row %d of %d dimensions",
				space.Name, p.Class, len(p.Values), p.Dimension, p.Offset, m.Rows, d)
		}
		if m.Data == nil {
			m = matrix.Matrix{Cols: d, Data: make([]float32, 0, int(p.Total)*d)}
		}
		m.Data = append(m.Data, p.Values...)
		if m.Rows = len(m.Data) / d; m.Rows < int(p.Total) {
			continue
		}
		if err := yield(int(p.Label), m); err != nil {
			return err
		}
		m = matrix.Matrix{}
	}
}

// bank streams the bank of one class.
func (s *Service) bank(ctx context.Context, c class) (matrix.Matrix, error) {
	var bank matrix.Matrix
	err := s.stream(ctx, c.space, func(_ int, m matrix.Matrix) error { bank = m; return nil }, c.info().Name)
	if err == nil && bank.Rows == 0 {
		err = fmt.Errorf("bank of %s, class %s: the embedder sent no rows", c.space.Name, c.info().Name)
	}
	return bank, err
}

// banks are the banks of whole spaces, those used last, by blob reference, within a bound of bytes.
type banks struct {
	mu    sync.Mutex
	max   int // bytes
	order []string
	kept  map[string][]matrix.Matrix
}

func newBanks(max int) *banks { return &banks{max: max, kept: map[string][]matrix.Matrix{}} }

func bytesOf(list []matrix.Matrix) (n int) {
	for _, m := range list {
		n += 4 * len(m.Data)
	}
	return n
}

func (b *banks) find(ref string) []matrix.Matrix {
	b.mu.Lock()
	defer b.mu.Unlock()
	list, ok := b.kept[ref]
	if ok {
		i := slices.Index(b.order, ref)
		b.order = append(slices.Delete(b.order, i, i+1), ref)
	}
	return list
}

// keep holds on to list, and lets those used longest ago go until all fit. What is too large by itself is not kept.
func (b *banks) keep(ref string, list []matrix.Matrix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.kept[ref]; ok || bytesOf(list) > b.max {
		return
	}
	b.kept[ref] = list
	b.order = append(b.order, ref)
	total := 0
	for _, l := range b.kept {
		total += bytesOf(l)
	}
	for total > b.max {
		oldest := b.order[0]
		total -= bytesOf(b.kept[oldest])
		delete(b.kept, oldest)
		b.order = b.order[1:]
	}
}

// all returns the banks of all classes of a space, in label order.
func (s *Service) all(ctx context.Context, space *embedderv1.Space) ([]matrix.Matrix, error) {
	if list := s.spaces.find(space.Bank); list != nil {
		return list, nil
	}
	list := make([]matrix.Matrix, len(space.Classes))
	if err := s.stream(ctx, space, func(label int, m matrix.Matrix) error { list[label] = m; return nil }); err != nil {
		return nil, err
	}
	s.spaces.keep(space.Bank, list)
	return list, nil
}

// each hands over the banks of all classes of a space, in label order: those kept, or as they are streamed where the
// space is too large to be kept.
func (s *Service) each(ctx context.Context, space *embedderv1.Space, yield func(label int, bank matrix.Matrix) error) error {
	size := 0
	for _, c := range space.Classes {
		size += 4 * int(c.Count) * int(space.Dimension)
	}
	if size > s.cfg.BankBytes {
		return s.stream(ctx, space, yield)
	}
	list, err := s.all(ctx, space)
	if err != nil {
		return err
	}
	for label, m := range list {
		if err := yield(label, m); err != nil {
			return err
		}
	}
	return nil
}
