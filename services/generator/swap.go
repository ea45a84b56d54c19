package generator

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/modelstore"
)

// lookEvery is how often the folders of the models that serve are looked at.
const lookEvery = 2 * time.Second

// warmTime bounds the first picture of a model: one step of the largest on a slow processor takes a fraction of it.
const warmTime = 10 * time.Minute

// watch replaces models whose files change, until ctx ends.
func (m *models) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.refresh(ctx)
		}
	}
}

// refresh looks at every model that serves, once.
func (m *models) refresh(ctx context.Context) {
	m.mu.Lock()
	var names []string
	for name, md := range m.known {
		if md.live != nil {
			names = append(names, name)
		}
	}
	m.mu.Unlock()
	for _, name := range names {
		if ctx.Err() == nil {
			m.renew(ctx, name)
		}
	}
}

// renew replaces a model whose files are others than those it was loaded from, and the same as at the last look: a
// folder that is being copied is left alone. Files that could not be loaded are not tried again.
func (m *models) renew(ctx context.Context, name string) {
	md := m.entry(name)
	if !md.loading.TryLock() {
		return
	}
	defer md.loading.Unlock()
	stamp, err := stampOf(filepath.Join(m.dir, name))
	if gone(err) {
		stamp = "gone"
	} else if err != nil {
		stamp = "unreadable: " + err.Error()
	}
	m.mu.Lock()
	live, settled := md.live, stamp == md.seen
	md.seen = stamp
	same, tried := live != nil && live.stamp == stamp, md.tried == stamp
	if same {
		md.problem, md.tried = nil, ""
	}
	m.mu.Unlock()
	switch {
	case live == nil || same || !settled || tried:
	case gone(err):
		m.mu.Lock()
		md.live, live.retired = nil, true
		m.mu.Unlock()
		m.sweep(live)
		m.told(name, change{what: "removed", digest: live.digest})
	default:
		m.load(ctx, name, md) // it is told there
	}
}

// make loads and warms what is in a folder: a model serves only after it has rendered a picture of finite numbers.
func (m *models) make(ctx context.Context, dir, stamp string) (*version, error) {
	real, err := filepath.EvalSymlinks(dir) // the store may point its name elsewhere meanwhile
	if err != nil {
		return nil, err
	}
	p, err := m.open(real)
	if err != nil {
		return nil, err
	}
	v := &version{Pipeline: p, stamp: stamp}
	if v.digest, err = p.Digest(); err == nil {
		v.description, err = describe(real, v.digest)
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), warmTime)
		err = v.warm(ctx)
		cancel()
	}
	if err == nil {
		var now string
		if now, err = stampOf(dir); err == nil && now != stamp {
			err = errors.New("its files changed while they were loaded")
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return v, nil
}

// warm renders a picture in one step, and learns what only a loaded model knows.
func (v *version) warm(ctx context.Context) error {
	_, err := v.Render(ctx, []diffusion.Item{{}}, diffusion.Options{Steps: 1, Scheduler: diffusion.DDIM})
	if err == nil {
		v.description.PictureHeight, v.description.PictureWidth, err = v.PictureSize(ctx)
	}
	if err != nil {
		return fmt.Errorf("render a first picture: %w", err)
	}
	v.description.Width, v.since = v.Width(), time.Now()
	return nil
}

// description is what ListModels says of a model.
type description struct {
	diffusion.Description
	digest, source string
}

// describe says what the model in a folder is. digest is that of its files where it is known. A model of the store has
// to be what its manifest says.
func describe(dir, digest string) (d description, err error) {
	if d.Description, err = diffusion.Describe(dir); err != nil {
		return d, err
	}
	manifest, err := modelstore.ReadManifest(dir)
	switch {
	case err == nil:
		d.digest, d.source = manifest.Digest, manifest.Source.String()
	case !gone(err):
		return d, err
	}
	err = nil
	if digest == "" && d.digest == "" {
		digest, err = diffusion.Digest(dir)
	}
	if d.digest != "" && digest != "" && d.digest != digest {
		return d, fmt.Errorf("its files are not those of its manifest: digest %.12s, want %.12s; dreamood models verify names them", digest, d.digest)
	}
	d.digest = cmp.Or(digest, d.digest)
	return d, err
}

// status is a model as ListModels shows it: ready, stale, loading, failed or available.
type status struct {
	description
	state   string
	problem error
	since   time.Time
}

// States of a model.
const (
	available = "available"
	loading   = "loading"
	ready     = "ready"
	stale     = "stale"
	failed    = "failed"
)

// states counts the models in each state, as far as they have been used.
func (m *models) states() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[string]int{loading: 0, ready: 0, stale: 0, failed: 0}
	for _, md := range m.known {
		if state := md.state(); state != available {
			counts[state]++
		}
	}
	return counts
}

func (md *model) state() string {
	switch {
	case md.live != nil && md.problem != nil:
		return stale
	case md.live != nil:
		return ready
	case md.busy:
		return loading
	case md.problem != nil:
		return failed
	}
	return available
}

// status says how a model is; one that is not loaded is looked at, once for the same files.
func (m *models) status(name string) status {
	md, dir := m.entry(name), filepath.Join(m.dir, name)
	m.mu.Lock()
	s := status{state: md.state(), problem: md.problem}
	if md.live != nil {
		s.description, s.since = md.live.description, md.live.since
	}
	m.mu.Unlock()
	if s.state != available && s.state != failed {
		return s
	}
	stamp, err := stampOf(dir)
	if err == nil {
		m.mu.Lock()
		d, fresh := md.described, md.describedFor == stamp
		m.mu.Unlock()
		if !fresh {
			if d, err = describe(dir, ""); err == nil {
				m.mu.Lock()
				md.described, md.describedFor = d, stamp
				m.mu.Unlock()
			}
		}
		s.description = d
	}
	if err != nil {
		s.state, s.problem = failed, err
	}
	return s
}

// parts are the folders of a model whose files it depends on, sorted.
var parts = func() []string {
	folders := map[string]bool{}
	for name := range diffusion.Wanted() {
		if part, _, inFolder := strings.Cut(name, "/"); inFolder {
			folders[part] = true
		}
	}
	return slices.Sorted(maps.Keys(folders))
}()

// stampOf changes when the files of a model do: the folder that its name leads to, and name, size, time and number of
// each file.
func stampOf(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", real)
	note := func(path string) error {
		stat, err := os.Stat(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %d %d %d\n", path, stat.Size(), stat.ModTime().UnixNano(), inode(stat))
		return nil
	}
	if err := note(filepath.Join(real, "model_index.json")); err != nil {
		return "", err
	}
	for _, part := range parts {
		err := filepath.WalkDir(filepath.Join(real, part), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			return note(path)
		})
		if err != nil && !gone(err) {
			return "", err
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
