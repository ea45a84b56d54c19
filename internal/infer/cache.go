package infer

import (
	"context"
	"fmt"
	"sync"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/onnx"
)

// maxModel bounds the size of a model in bytes.
const maxModel = 1 << 30

// Cache keeps the models used last in memory. A model in use is not freed.
type Cache struct {
	mu     sync.Mutex
	max    int
	cfg    onnx.Config
	blobs  artifact.Store
	loaded []*cached // used last at the end
}

type cached struct {
	ref   artifact.Ref
	model *Model
	users int
}

// NewCache makes a cache of at most n models that nobody uses at the moment.
func NewCache(n int, cfg onnx.Config, blobs artifact.Store) *Cache {
	return &Cache{max: n, cfg: cfg, blobs: blobs}
}

// Use lends the model of a blob to do.
func (c *Cache) Use(ctx context.Context, ref artifact.Ref, do func(*Model) error) error {
	m, err := c.take(ctx, ref)
	if err != nil {
		return err
	}
	defer c.release(m)
	return do(m.model)
}

func (c *Cache) take(ctx context.Context, ref artifact.Ref) (*cached, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.loaded {
		if m.ref == ref {
			c.loaded = append(append(c.loaded[:i:i], c.loaded[i+1:]...), m)
			m.users++
			return m, nil
		}
	}
	raw, err := artifact.ReadAll(ctx, c.blobs, ref, maxModel)
	if err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	model, err := Open(raw, c.cfg)
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", ref, err)
	}
	m := &cached{ref, model, 1}
	c.loaded = append(c.loaded, m)
	c.shrink()
	return m, nil
}

func (c *Cache) release(m *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.users--
	c.shrink()
}

// shrink frees models that nobody uses, the longest unused first, until there are at most max.
func (c *Cache) shrink() {
	for i := 0; i < len(c.loaded) && len(c.loaded) > c.max; {
		if c.loaded[i].users > 0 {
			i++
			continue
		}
		c.loaded[i].model.Close()
		c.loaded = append(c.loaded[:i], c.loaded[i+1:]...)
	}
}

// Close frees the models; call it when none is in use.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.max = 0
	c.shrink()
}
