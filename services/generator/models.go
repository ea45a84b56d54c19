package generator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

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

// models are the diffusion models of a folder. Each is loaded, and renders a first picture, before it is used; when its
// files change it is loaded again beside the old one, which is closed when nobody uses it any more.
type models struct {
	dir  string
	open func(dir string) (Pipeline, error)
	tell func(name string, c change) // for the log; nil is nobody

	mu    sync.Mutex
	known map[string]*model
	all   map[*version]bool // that are not closed
	errs  []error           // of closing
}

// model is a name. All but loading is guarded by models.mu.
type model struct {
	loading sync.Mutex // one load at a time; other models go on
	busy    bool       // it is being loaded
	live    *version   // nil: none
	problem error      // why what is in the folder does not serve
	seen    string     // stamp at the last look
	tried   string     // stamp of the files that problem is of

	described    description // of files that are not loaded
	describedFor string      // stamp
}

// version is a model as it was loaded once.
type version struct {
	Pipeline
	digest, stamp string
	description   description
	since         time.Time
	users         int
	retired       bool
}

// change is something that happened to a model.
type change struct {
	what   string // loaded, replaced, removed; "" where err says what did not happen
	digest string
	took   time.Duration
	err    error
}

func newModels(dir string, open func(dir string) (Pipeline, error)) *models {
	return &models{dir: dir, open: open, known: map[string]*model{}, all: map[*version]bool{}}
}

// get returns a model by name. It may be used until ctx ends, also when it is replaced before. A model that cannot be
// loaded is tried again at the next call.
func (m *models) get(ctx context.Context, name string) (Pipeline, error) {
	if !ood.ValidID(name) {
		return nil, fault.Invalid("rendering.model", "%q is no model name; want 1 to 63 of a-z 0-9 - _", name)
	}
	if p := m.lease(ctx, name); p != nil {
		return p, nil
	}
	md := m.entry(name)
	md.loading.Lock()
	defer md.loading.Unlock()
	if p := m.lease(ctx, name); p != nil { // loaded meanwhile
		return p, nil
	}
	dir := filepath.Join(m.dir, name)
	if _, err := os.Stat(filepath.Join(dir, "model_index.json")); err != nil {
		return nil, fault.New(fault.NotFound, "model %q: %w; put a diffusion model in the Diffusers layout into that folder (dreamood models add, pull), or name another", name, err)
	}
	if err := m.load(ctx, name, md); passing(err) {
		return nil, fmt.Errorf("model %q: %w", name, err)
	} else if err != nil {
		return nil, fault.New(fault.FailedPrecondition, "model %q: %w", name, err)
	}
	return m.lease(ctx, name), nil
}

func (m *models) entry(name string) *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[name] == nil {
		m.known[name] = &model{}
	}
	return m.known[name]
}

// lease returns the version that serves, until ctx ends; nil where none does.
func (m *models) lease(ctx context.Context, name string) Pipeline {
	m.mu.Lock()
	defer m.mu.Unlock()
	md := m.known[name]
	if md == nil || md.live == nil {
		return nil
	}
	v := md.live
	v.users++
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		v.users--
		m.mu.Unlock()
		m.sweep(v)
	})
	return v.Pipeline
}

// sweep closes a version that was replaced, when nobody uses it.
func (m *models) sweep(v *version) {
	m.mu.Lock()
	idle := v.retired && v.users == 0 && m.all[v]
	if idle {
		delete(m.all, v)
	}
	m.mu.Unlock()
	if !idle {
		return
	}
	if err := v.Close(); err != nil {
		m.mu.Lock()
		m.errs = append(m.errs, err)
		m.mu.Unlock()
	}
}

// load makes a version of what is in the folder and lets it serve in place of the old one, which goes on where it
// fails. The caller holds md.loading.
func (m *models) load(ctx context.Context, name string, md *model) error {
	m.mu.Lock()
	md.busy = true
	m.mu.Unlock()
	began := time.Now()
	dir := filepath.Join(m.dir, name)
	stamp, err := stampOf(dir)
	var v *version
	if err == nil {
		v, err = m.make(ctx, dir, stamp)
	}
	m.mu.Lock()
	md.busy = false
	old := md.live
	c := change{took: time.Since(began), err: err}
	if err != nil {
		md.problem, md.tried = err, stamp
	} else {
		md.live, md.problem, md.tried = v, nil, ""
		m.all[v] = true
		if c.what, c.digest = "loaded", v.digest; old != nil {
			c.what, old.retired = "replaced", true
		}
	}
	m.mu.Unlock()
	if err == nil && old != nil {
		m.sweep(old)
	}
	m.told(name, c)
	return err
}

func (m *models) told(name string, c change) {
	if m.tell != nil {
		m.tell(name, c)
	}
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
	errs := m.errs
	for v := range m.all {
		errs = append(errs, v.Close())
	}
	m.all, m.known, m.errs = map[*version]bool{}, map[string]*model{}, nil
	return errs
}

// gone says that a folder does not hold a model any more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
