package diffusion

import (
	"container/list"
	"context"
	"sync"
)

// textCacheBytes bounds the text embeddings that a pipeline keeps: 276 prompts
// of Stable Diffusion 1, thousands of the reference model.
const textCacheBytes = 64 << 20

// textCache keeps the text embeddings of the prompts, with their overrides,
// that were asked for last. It is safe for concurrent use.
type textCache struct {
	limit int // bytes

	mu     sync.Mutex
	size   int
	known  map[string]*list.Element
	recent *list.List // of *encoded, the latest first
}

type encoded struct {
	key    string
	states []float32 // [L, H]
}

func (e *encoded) bytes() int { return len(e.key) + 4*len(e.states) }

func newTextCache(limit int) *textCache {
	return &textCache{limit: limit, known: map[string]*list.Element{}, recent: list.New()}
}

// encode returns the text embeddings of prompts, [B, L, H]. Those that are not
// kept are computed together, each distinct one once.
func (c *textCache) encode(ctx context.Context, prompts []Prompt, compute func(context.Context, []Prompt) ([]float32, error)) ([]float32, error) {
	rows := map[string][]float32{}
	var missing []Prompt
	keys := make([]string, len(prompts))
	for i, p := range prompts {
		keys[i] = p.key()
		if _, seen := rows[keys[i]]; seen {
			continue
		}
		rows[keys[i]] = c.get(keys[i])
		if rows[keys[i]] == nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		computed, err := compute(ctx, missing)
		if err != nil {
			return nil, err
		}
		size := len(computed) / len(missing)
		for i, p := range missing {
			key := p.key()
			rows[key] = computed[i*size : (i+1)*size : (i+1)*size]
			c.put(key, append([]float32(nil), rows[key]...))
		}
	}
	var states []float32
	for _, key := range keys {
		states = append(states, rows[key]...)
	}
	return states, nil
}

// get returns what is kept, which must not be changed, or nil.
func (c *textCache) get(key string) []float32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.known[key]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*encoded).states
}

func (c *textCache) put(key string, states []float32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[key] != nil { // another request was faster
		return
	}
	e := &encoded{key: key, states: states}
	c.known[key] = c.recent.PushFront(e)
	c.size += e.bytes()
	for c.size > c.limit {
		last := c.recent.Back()
		old := c.recent.Remove(last).(*encoded)
		delete(c.known, old.key)
		c.size -= old.bytes()
	}
}
