package modelstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/hub"
)

// Pull brings a revision of a repository of the hub into the store: the files that are read of a model, with the
// external data that its graphs name, and nothing else. Cut off, it goes on where it was when it is called again. A
// model that is of the same commit already is left as it is; changed then says false.
func (s *Store) Pull(ctx context.Context, client *hub.Client, name, repo, revision string, o Options) (m Manifest, changed bool, err error) {
	if err := errors.Join(checkName(name), hub.CheckRepo(repo)); err != nil {
		return m, false, err
	}
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return m, false, err
	}
	defer unlock()
	old, err := s.own(name)
	if err != nil {
		return m, false, err
	}
	r, err := client.Revision(ctx, repo, revision)
	if err != nil {
		return m, false, err
	}
	source := Source{Endpoint: client.Endpoint(), Repo: repo, Revision: revision, Commit: r.Commit}
	if old != "" {
		if have, err := ReadManifest(old); err == nil && have.Source.Repo == repo && have.Source.Commit == r.Commit {
			if list, err := have.compare(ctx, old, o.Progress); err == nil && len(list) == 0 {
				return have, false, nil
			}
		} else if err := s.free(name, o.Replace); err != nil {
			return m, false, err
		}
	}
	p := &pull{store: s, client: client, repo: repo, revision: r, o: o, dir: s.inner("partial", name+"@"+r.Commit), sizes: map[string]int64{}}
	if err := p.all(ctx); err != nil {
		return m, false, fmt.Errorf("pull %s: %w", repo, err)
	}
	m, err = s.publish(name, p.dir, source, p.files)
	if err != nil {
		return m, false, fmt.Errorf("pull %s: %w", repo, err)
	}
	return m, true, s.dropPartial(name)
}

// dropPartial removes what was downloaded of other revisions.
func (s *Store) dropPartial(name string) error {
	left, err := filepath.Glob(s.inner("partial", name+"@*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// pull is a download.
type pull struct {
	store    *Store
	client   *hub.Client
	repo     string
	revision hub.Revision
	o        Options
	dir      string
	files    []File
	sizes    map[string]int64 // bytes that are there, by path
	done     int64            // sum of sizes
	total    int64
}

// all downloads the files with fixed names, and then the external data that the graphs among them name.
func (p *pull) all(ctx context.Context) error {
	var names, missing []string
	for name, required := range diffusion.Wanted() {
		switch {
		case slices.Contains(p.revision.Files, name):
			names = append(names, name)
		case required:
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("commit %.12s has no %s; it is no Stable Diffusion model in ONNX. Some repositories keep one on a branch (--revision onnx); others are exported with: optimum-cli export onnx --model %s FOLDER, and then added with dreamood models add",
			p.revision.Commit, strings.Join(missing, ", "), p.repo)
	}
	for _, name := range extras {
		if slices.Contains(p.revision.Files, name) {
			names = append(names, name)
		}
	}
	if err := p.some(ctx, names); err != nil {
		return err
	}
	var external []string
	for _, name := range names {
		if !strings.HasSuffix(name, ".onnx") {
			continue
		}
		files, err := diffusion.ExternalData(p.dir, name)
		if err != nil {
			return err
		}
		for _, file := range files {
			if !slices.Contains(p.revision.Files, file) {
				return fmt.Errorf("%s names external data in %s, which the repository does not have", name, file)
			}
			if !slices.Contains(names, file) && !slices.Contains(external, file) {
				external = append(external, file)
			}
		}
	}
	return p.some(ctx, external)
}

// some downloads files, after it has seen that they fit on the disk.
func (p *pull) some(ctx context.Context, names []string) error {
	slices.Sort(names)
	var files []hub.File
	need := int64(0)
	for _, name := range names {
		f, err := p.client.Stat(ctx, p.repo, p.revision.Commit, name)
		if err != nil {
			return err
		}
		files = append(files, f)
		need += max(0, f.Bytes)
	}
	p.total += need
	if err := p.store.room(need - sizeOf(p.dir, names)); err != nil {
		return err
	}
	for _, f := range files {
		to := filepath.Join(p.dir, filepath.FromSlash(f.Path))
		err := p.client.Fetch(ctx, p.repo, p.revision.Commit, f, to, func(n int64) {
			p.done += n - p.sizes[f.Path]
			p.sizes[f.Path] = n
			p.o.progress(f.Path, p.done, max(p.total, p.done))
		})
		if err != nil {
			return err
		}
		kept, err := sumFile(to)
		if err != nil {
			return err
		}
		kept.Path = f.Path
		p.files = append(p.files, kept)
	}
	return nil
}

// sizeOf is what is there of files, whole or not.
func sizeOf(dir string, names []string) (total int64) {
	for _, name := range names {
		for _, path := range []string{name, name + ".part"} {
			if stat, err := os.Stat(filepath.Join(dir, filepath.FromSlash(path))); err == nil {
				total += stat.Size()
			}
		}
	}
	return total
}
