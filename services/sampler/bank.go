package sampler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// bank is the ID embeddings of one class, as the embedder streams them.
type bank struct {
	rows   matrix.Matrix // [N, D], unit rows
	anchor []float32     // [D], T(y)
	word   string
	label  int
	ref    string // blob of the space's whole bank: another one after another training
}

// fetch asks the embedder for the bank of a class.
func (s *Service) fetch(ctx context.Context, space, class string) (bank, error) {
	if class == "" {
		return bank{}, fault.Invalid("class", "is empty; name a class of %s", space)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.deps.Embedder.StreamBank(ctx, &embedderv1.StreamBankRequest{Space: space, Classes: []string{class}})
	if err != nil {
		return bank{}, err
	}
	var b bank
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bank{}, fmt.Errorf("bank of %s, class %s: %w", space, class, err)
		}
		if b.rows.Cols == 0 {
			b.rows, b.anchor, b.word, b.label, b.ref = matrix.Matrix{Cols: int(p.Dimension)}, p.Anchor, p.Word, int(p.Label), p.Bank
		}
		b.rows.Data = append(b.rows.Data, p.Values...)
		b.rows.Rows += len(p.Values) / b.rows.Cols
	}
	if b.rows.Rows == 0 || len(b.anchor) != b.rows.Cols {
		return bank{}, fmt.Errorf("bank of %s, class %s: %d rows, an anchor of %d for %d dimensions", space, class, b.rows.Rows, len(b.anchor), b.rows.Cols)
	}
	return b, nil
}

// key names a prepared class: everything that its boundary depends on.
type key struct {
	ref, class, method string
	params             Params
}

// cache keeps the samplers used last.
type cache struct {
	mu    sync.Mutex
	max   int
	order []key // used last at the end
	kept  map[key]Sampler
}

func newCache(n int) *cache { return &cache{max: n, kept: map[key]Sampler{}} }

// get returns the sampler of k, made by make when it is not kept. Two callers may make the same one; both are equal.
func (p *cache) get(k key, make func() (Sampler, error)) (Sampler, error) {
	if s, ok := p.find(k); ok {
		return s, nil
	}
	s, err := make()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.kept[k]; !ok {
		p.kept[k] = s
		p.order = append(p.order, k)
		if len(p.order) > p.max {
			delete(p.kept, p.order[0])
			p.order = slices.Delete(p.order, 0, 1)
		}
	}
	return s, nil
}

func (p *cache) find(k key) (Sampler, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.kept[k]
	if ok {
		i := slices.Index(p.order, k)
		p.order = append(slices.Delete(p.order, i, i+1), k)
	}
	return s, ok
}
