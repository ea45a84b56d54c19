package sampler

import (
	"slices"
	"sync"
)

// ready is a class that samples can be drawn from.
type ready struct {
	sampler Sampler
	noise   float64 // K-th distance of random directions, see [NoiseLevel]
}

// key names a prepared class: everything that its sampler depends on.
type key struct {
	bank, anchors, class, method string
	params                       Params
}

// cache keeps the classes used last.
type cache struct {
	mu    sync.Mutex
	max   int
	order []key // used last at the end
	kept  map[key]ready
}

func newCache(n int) *cache { return &cache{max: n, kept: map[key]ready{}} }

// get returns what is kept under k, or makes it. Two callers may make the same; both are equal.
func (p *cache) get(k key, make func() (ready, error)) (ready, error) {
	if r, ok := p.find(k); ok {
		return r, nil
	}
	r, err := make()
	if err != nil {
		return ready{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.kept[k]; !ok {
		p.kept[k] = r
		p.order = append(p.order, k)
		if len(p.order) > p.max {
			delete(p.kept, p.order[0])
			p.order = slices.Delete(p.order, 0, 1)
		}
	}
	return r, nil
}

func (p *cache) find(k key) (ready, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.kept[k]
	if ok {
		i := slices.Index(p.order, k)
		p.order = append(slices.Delete(p.order, i, i+1), k)
	}
	return r, ok
}
