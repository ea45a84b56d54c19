package generator

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
)

// models are the diffusion models of a folder, loaded when they are first used.
type models struct {
	dir    string
	cfg    diffusion.Config
	mu     sync.Mutex
	loaded map[string]*diffusion.Pipeline
}

func newModels(dir string, cfg diffusion.Config) *models {
	return &models{dir: dir, cfg: cfg, loaded: map[string]*diffusion.Pipeline{}}
}

// get returns a model by name. A model that cannot be loaded is tried again at the next call.
func (m *models) get(name string) (*diffusion.Pipeline, error) {
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
	p, err := diffusion.Open(dir, m.cfg)
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
