package dataset

import (
	"context"
	"crypto/sha256"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Open reads a labelled dataset, two classes or more, into memory. A bad
// dataset gives an *InvalidError that names up to MaxProblems problems; a bad
// option a plain error; a done context its error.
func Open(ctx context.Context, name string, opt Options) (*Dataset, error) {
	return open(ctx, name, opt, true)
}

// OpenUnlabelled reads pictures whose labels do not matter, as of an OOD set.
// One class, or no class folders at all, are fine then; folders still give the
// groups that PerClass counts in, and the labels, when they are there.
func OpenUnlabelled(ctx context.Context, name string, opt Options) (*Dataset, error) {
	return open(ctx, name, opt, false)
}

func open(ctx context.Context, name string, opt Options, labelled bool) (*Dataset, error) {
	opt, err := opt.prepare()
	if err != nil {
		return nil, err
	}
	found := &problems{}
	s, err := survey(ctx, name, opt, labelled, found)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, found.err(name)
	}
	defer func() { _ = s.src.Close() }() // only read
	d := newDataset(datasetName(name), s.plan, opt)
	r := &reader{opt: opt, plan: s.plan, problems: found, dataset: d, memory: semaphore.NewWeighted(opt.Limits.MaxPixels)}
	if err := r.read(ctx, s.src); err != nil {
		return nil, err
	}
	if err := found.err(name); err != nil {
		return nil, err
	}
	d.Alpha, d.Resized = int(r.alpha.Load()), int(r.resized.Load())
	return d, nil
}

// surveyed is an open source and what to read of it.
type surveyed struct {
	src     source
	listing *listing
	plan    plan
}

// survey opens and lists a source. It returns nil when the problems it found
// leave nothing to go on with.
func survey(ctx context.Context, name string, opt Options, labelled bool, found *problems) (*surveyed, error) {
	src, p := openSource(name, opt.Limits)
	if p != nil {
		found.addFatal(*p)
		return nil, nil
	}
	l := &listing{lim: opt.Limits, problems: found, seen: map[string]bool{}}
	if err := src.list(ctx, l); err != nil {
		_ = src.Close() // only read
		return nil, err
	}
	s := &surveyed{src: src, listing: l}
	if !found.fatal {
		s.plan = makePlan(l, opt, labelled)
	}
	if found.fatal || found.count >= MaxProblems {
		_ = src.Close() // only read
		return nil, nil
	}
	return s, nil
}

// datasetName is the last part of a path without the extensions of an archive.
func datasetName(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs // "." has a name too
	}
	base := filepath.Base(path)
	for _, ext := range []string{".zip", ".tar", ".tar.gz", ".tgz"} {
		if cut, ok := strings.CutSuffix(base, ext); ok && cut != "" {
			return cut
		}
	}
	return base
}

// reader decodes the pictures of a plan into a dataset: one goroutine reads,
// several decode. The semaphore bounds the pixels that are being decoded at one
// time, so that many large pictures at once cost no more than one at the limit.
type reader struct {
	opt            Options
	plan           plan
	problems       *problems
	dataset        *Dataset
	memory         *semaphore.Weighted
	alpha, resized atomic.Int64
}

type job struct {
	at   int // position in the plan
	data []byte
}

func (r *reader) read(ctx context.Context, src source) error {
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	workers := r.opt.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	for range workers {
		group.Go(func() error {
			for j := range jobs {
				if err := r.decode(ctx, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(jobs)
		return eachPick(ctx, src, r.plan, func(at int, data []byte, err error) error {
			if err != nil {
				r.problems.add(at, *unreadable(r.plan.picks[at].path, err))
				return nil
			}
			select {
			case jobs <- job{at, data}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	return group.Wait()
}

// decode decodes one picture into its place.
func (r *reader) decode(ctx context.Context, j job) error {
	file := r.plan.picks[j.at].path
	f, cfg, p := examine(file, j.data, r.opt.Limits)
	if p != nil {
		r.problems.add(j.at, *p)
		return nil
	}
	pixels := int64(cfg.Width) * int64(cfg.Height)
	if err := r.memory.Acquire(ctx, pixels); err != nil {
		return err
	}
	pic, p := decodePicture(ctx, file, j.data, f, r.dataset.Image(j.at), r.opt)
	r.memory.Release(pixels)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case p != nil:
		r.problems.add(j.at, *p)
		return nil
	}
	if pic.alpha {
		r.alpha.Add(1)
	}
	if pic.resized {
		r.resized.Add(1)
	}
	r.dataset.sums[j.at] = sha256.Sum256(j.data)
	return nil
}

// eachPick reads the pictures of a plan in the order of the source, and calls
// do with the position of each in the plan.
func eachPick(ctx context.Context, src source, p plan, do func(at int, data []byte, err error) error) error {
	order := bySource(p.picks)
	want := make([]entry, len(order))
	for i, at := range order {
		want[i] = p.picks[at].entry
	}
	return src.each(ctx, want, func(i int, data []byte, err error) error { return do(order[i], data, err) })
}
