package runs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	defaultPage = 50
	maxPage     = 1000
	readAhead   = 64 // documents that List reads at once
)

// Get reads a run. ErrNotFound when there is none.
func (s *Service) Get(ctx context.Context, id string) (Run, error) {
	if !idPattern.MatchString(id) {
		return Run{}, fmt.Errorf("run %q: %w", id, ErrNotFound)
	}
	last, err := s.lastEvent(ctx, id) // first, so that the run is at least as new
	if err != nil {
		return Run{}, err
	}
	run, err := s.load(ctx, id)
	run.Sequence = last.Sequence
	return run, err
}

// Filter selects runs; empty fields select all.
type Filter struct {
	Kind   string
	State  State
	Owner  string
	Target string
	Labels map[string]string // all of them; an empty value means any value
}

func (f Filter) match(run *Run) bool {
	for name, want := range f.Labels {
		if value, ok := run.Options.Labels[name]; !ok || want != "" && want != value {
			return false
		}
	}
	return (f.Kind == "" || f.Kind == run.Kind) && (f.State == "" || f.State == run.State) &&
		(f.Owner == "" || f.Owner == run.Owner) && (f.Target == "" || f.Target == run.Target)
}

// List returns runs, the newest first, at most pageSize (0 means 50, more than 1000 means 1000), and the token of the
// next page, empty on the last one.
func (s *Service) List(ctx context.Context, filter Filter, pageSize int, token string) ([]Run, string, error) {
	switch {
	case pageSize < 0:
		return nil, "", fmt.Errorf("%w page size %d: want 0 or more", ErrInvalid, pageSize)
	case pageSize == 0:
		pageSize = defaultPage
	}
	pageSize = min(pageSize, maxPage)
	before, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || token != "" && !idPattern.Match(before) {
		return nil, "", fmt.Errorf("%w page token %q: use next_page_token of the page before", ErrInvalid, token)
	}
	ids, err := s.ids(ctx)
	if err != nil {
		return nil, "", err
	}
	end := len(ids)
	if token != "" {
		end, _ = slices.BinarySearch(ids, string(before))
	}
	ids = ids[:end]
	var page []Run
	for len(ids) > 0 {
		first := max(len(ids)-readAhead, 0)
		some, err := s.loadAll(ctx, ids[first:])
		if err != nil {
			return nil, "", err
		}
		for _, run := range slices.Backward(some) {
			if run.ID == "" || !filter.match(&run) { // withdrawn or deleted since, or not asked for
				continue
			}
			if len(page) == pageSize {
				return page, base64.RawURLEncoding.EncodeToString([]byte(page[pageSize-1].ID)), nil
			}
			page = append(page, run)
		}
		ids = ids[:first]
	}
	return page, "", nil
}

// loadAll reads runs, several at a time; the zero Run stands for one that is not there.
func (s *Service) loadAll(ctx context.Context, ids []string) ([]Run, error) {
	list := make([]Run, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, id := range ids {
		group.Go(func() error {
			run, err := s.load(ctx, id)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			list[i] = run
			return err
		})
	}
	return list, group.Wait()
}

// ids of all runs, the oldest first.
func (s *Service) ids(ctx context.Context) ([]string, error) {
	lister, err := s.docs.ListKeysFiltered(ctx, runKey("*"))
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	defer lister.Stop()
	var ids []string
	for key := range lister.Keys() {
		ids = append(ids, strings.TrimPrefix(key, runKey("")))
	}
	if err := ctx.Err(); err != nil { // the list may be cut off
		return nil, fmt.Errorf("list runs: %w", err)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// logState writes one line per change of state.
func (s *Service) logState(run Run, before State) {
	if run.State == before {
		return
	}
	fields := []zap.Field{
		zap.String("run", run.ID), zap.String("kind", run.Kind), zap.String("state", string(run.State)),
		zap.Int("shards", run.ShardCount), zap.String("target", run.Target), zap.String("owner", run.Owner),
	}
	if id := run.TraceID(); id != "" {
		fields = append(fields, zap.String("trace_id", id))
	}
	if run.State.Terminal() {
		fields = append(fields, zap.Duration("took", run.Ended.Sub(run.Created)), zap.Int64("units", run.Progress.Done))
	}
	if run.Failure != nil {
		fields = append(fields, zap.String("reason", run.Failure.Reason), zap.String("message", run.Failure.Message))
	}
	s.observe.State(run.Kind, string(run.State))
	s.log.Info("run", fields...)
}
