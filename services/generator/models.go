package generator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
)

// Pipeline is a diffusion model: a diffusion.Pipeline in this process, or one that an engine's process holds.
type Pipeline interface {
	Width() int // of a token embedding
	Batch() int // pictures that are rendered together
	LatentShape() [3]int
	HasEncoder() bool // so that pictures can be given
	PictureSize(context.Context) (height, width int, err error)
	SchedulerName(name string) string
	Digest() (string, error)
	PartDigests() (map[string]string, error)       // by folder
	SchedulerOptions() (map[string]any, error)     // as in scheduler_config.json
	Tokens(prompt string) (ids []int64, err error) // with marks and padding
	Check([]diffusion.Item, diffusion.Options) error
	Render(context.Context, []diffusion.Item, diffusion.Options) ([]diffusion.Image, error)
	Close() error
}

// models are the diffusion models of a folder, loaded when they are first used.
type models struct {
	dir    string
	open   func(dir string) (Pipeline, error)
	mu     sync.Mutex
	loaded map[string]Pipeline
}

func newModels(dir string, open func(dir string) (Pipeline, error)) *models {
	return &models{dir: dir, open: open, loaded: map[string]Pipeline{}}
}

// get returns a model by name. A model that cannot be loaded is tried again at the next call.
func (m *models) get(name string) (Pipeline, error) {
	if !ood.ValidID(name) {
		return nil, fault.Invalid("rendering.model", "%q is no model name; want 1 to 63 of a-z 0-9 - _", name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.loaded[name]; p != nil {
		return p, nil
	}
	dir := filepath.Join(m.dir, name)
	if _, err := os.Stat(filepath.Join(dir, "model_index.json")); err != nil {
		return nil, fault.New(fault.NotFound, "model %q: %w; put a diffusion model in the Diffusers layout into that folder, or name another", name, err)
	}
	p, err := m.open(dir)
	if passing(err) {
		return nil, fmt.Errorf("model %q: %w", name, err)
	}
	if err != nil {
		return nil, fault.New(fault.FailedPrecondition, "model %q: %w", name, err)
	}
	m.loaded[name] = p
	return p, nil
}

// names are the folders that hold a model.
func (m *models) names() ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("models: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(m.dir, e.Name(), "model_index.json")); err == nil && ood.ValidID(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (m *models) close() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for name, p := range m.loaded {
		errs = append(errs, p.Close())
		delete(m.loaded, name)
	}
	return errs
}
