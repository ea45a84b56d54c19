package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/runs"
)

// maxDocument bounds the results of runs that are searched for names, in bytes: no role stores a larger description.
const maxDocument = 16 << 20

// named finds the names of blobs in a text. One too many does no harm.
var named = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// marks are what something names.
type marks struct {
	blobs map[artifact.Ref]bool
	runs  map[string]bool // whose check-points may be needed, by Run.Origin
}

func (m marks) live(ref artifact.Ref) bool { return m.blobs[ref] }

func (m marks) text(text []byte) {
	for _, name := range named.FindAll(text, -1) {
		m.blobs[artifact.Ref(name)] = true
	}
}

// mark reads everything that names blobs.
func (c *Collector) mark(ctx context.Context, grace time.Duration) (marks, error) {
	m := marks{blobs: map[artifact.Ref]bool{}, runs: map[string]bool{}}
	now := time.Now()
	results := map[artifact.Ref]bool{}
	for token := ""; ; {
		page, next, err := c.deps.Runs.List(ctx, runs.Filter{}, 200, token)
		if err != nil {
			return m, err
		}
		for _, run := range page {
			if run.State == runs.Succeeded && now.Sub(run.Ended) >= grace {
				continue
			}
			m.run(run, results)
		}
		if token = next; token == "" {
			break
		}
	}
	for ref := range results {
		if err := c.result(ctx, m, ref); err != nil {
			return m, err
		}
	}
	err := c.deps.Catalog.Revisions(ctx, func(r catalog.Revision) {
		if r.Until.IsZero() || now.Sub(r.Until) < grace {
			m.text(r.JSON)
		}
	})
	return m, err
}

// run marks what a run names, and collects its results.
func (m marks) run(run runs.Run, results map[artifact.Ref]bool) {
	m.runs[run.ID], m.runs[run.Origin] = true, true
	m.text(run.Payload)
	keep := func(result []byte) {
		for _, name := range named.FindAll(result, -1) {
			m.blobs[artifact.Ref(name)], results[artifact.Ref(name)] = true, true
		}
	}
	for i := range run.Shards {
		keep(run.Shards[i].Result)
	}
	keep(run.Final.Result)
}

// result marks what the description that a run has stored names. Results that are no JSON, such as shards of pictures,
// name nothing. One that is missing or damaged cannot be committed any more.
func (c *Collector) result(ctx context.Context, m marks, ref artifact.Ref) error {
	size, err := c.deps.Blobs.Stat(ctx, ref)
	if errors.Is(err, artifact.ErrNotFound) || errors.Is(err, artifact.ErrCorrupt) || err == nil && size > maxDocument {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := c.deps.Blobs.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(r, first); err != nil || first[0] != '{' {
		return nil
	}
	text, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, artifact.ErrCorrupt) {
		return fmt.Errorf("read the result %s: %w", ref, err)
	}
	m.text(text)
	return nil
}
