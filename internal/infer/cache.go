package infer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// maxModel bounds the size of a model in bytes.
const maxModel = 1 << 30

// Cache keeps the models used last in memory. A model in use is not freed, and one that is being loaded holds nobody up
// who uses another.
type Cache struct {
	mu     sync.Mutex
	max    int
	cfg    onnx.Config
	blobs  artifact.Store
	loaded []*cached // used last at the end
}

type cached struct {
	ref     artifact.Ref
	outputs string // that it was reduced to; "" for all
	ready   chan struct{}
	model   *Model // after ready; nil when it could not be loaded
	err     error
	users   int
}

// NewCache makes a cache of at most n models that nobody uses at the moment.
func NewCache(n int, cfg onnx.Config, blobs artifact.Store) *Cache {
	return &Cache{max: n, cfg: cfg, blobs: blobs}
}

// Use lends the model of a blob to do. With outputs, it is a model that computes these alone.
func (c *Cache) Use(ctx context.Context, ref artifact.Ref, do func(*Model) error, outputs ...string) error {
	for {
		m, mine := c.take(ref, strings.Join(outputs, "\x00"))
		if mine {
			m.model, m.err = c.load(ctx, ref, outputs)
			close(m.ready)
		}
		again, err := c.lend(ctx, m, do)
		if !again || mine {
			return err
		}
	}
}

// lend waits for a model and hands it to do; again says that another caller gave up while it loaded the model.
func (c *Cache) lend(ctx context.Context, m *cached, do func(*Model) error) (again bool, err error) {
	defer c.release(m)
	select {
	case <-m.ready:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if m.err != nil {
		gaveUp := errors.Is(m.err, context.Canceled) || errors.Is(m.err, context.DeadlineExceeded)
		return gaveUp && ctx.Err() == nil, m.err
	}
	return false, do(m.model)
}

// take counts a user of a model; mine says that the caller has to load it.
func (c *Cache) take(ref artifact.Ref, outputs string) (m *cached, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.loaded {
		if m.ref == ref && m.outputs == outputs && !m.failed() {
			c.loaded = append(append(c.loaded[:i:i], c.loaded[i+1:]...), m)
			m.users++
			return m, false
		}
	}
	m = &cached{ref: ref, outputs: outputs, ready: make(chan struct{}), users: 1}
	c.loaded = append(c.loaded, m)
	c.shrink()
	return m, true
}

// failed says that a model could not be loaded: the next user tries again.
func (m *cached) failed() bool {
	select {
	case <-m.ready:
		return m.err != nil
	default:
		return false
	}
}

func (c *Cache) load(ctx context.Context, ref artifact.Ref, outputs []string) (*Model, error) {
	raw, err := artifact.ReadAll(ctx, c.blobs, ref, maxModel)
	if err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	if len(outputs) > 0 {
		if raw, err = reduced(raw, outputs); err != nil {
			return nil, fmt.Errorf("load model %s: %w", ref, err)
		}
	}
	model, err := Open(raw, c.cfg)
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", ref, err)
	}
	return model, nil
}

// reduced is a model without what the outputs do not need.
func reduced(raw []byte, outputs []string) ([]byte, error) {
	m, err := onnxpb.Unmarshal(raw)
	if err == nil {
		err = onnxpb.Prune(m, outputs...)
	}
	if err != nil {
		return nil, err
	}
	return onnxpb.Marshal(m)
}

func (c *Cache) release(m *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.users--
	c.shrink()
}

// shrink frees models that nobody uses: those that could not be loaded, and then the longest unused first until there are
// at most max.
func (c *Cache) shrink() {
	c.loaded = slices.DeleteFunc(c.loaded, func(m *cached) bool { return m.users == 0 && m.model == nil })
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
