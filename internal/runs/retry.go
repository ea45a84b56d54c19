package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Retry makes a new run out of one that FAILED or was CANCELLED, and keeps the old one as it ended. The new one starts
// with the shards that the old one had committed and has its Origin, so it finds its check-points. Its time limit
// begins anew; a deadline that has passed is left out. Retried twice, it is the same run. ErrState when the run has not
// ended or SUCCEEDED; ErrQueueFull when there is no room now.
func (s *Service) Retry(ctx context.Context, id string) (Run, error) {
	next := newID(s.now())
	old, err := s.change(ctx, id, func(run *Run) error {
		switch {
		case run.State != Failed && run.State != Cancelled:
			return fmt.Errorf("retry run %s, which is %s: %w", id, run.State, ErrState)
		case run.RetriedBy != "":
			return errKeep
		}
		run.RetriedBy = next // from here on every Retry makes the same run
		return nil
	})
	if err != nil {
		return Run{}, err
	}
	s.point("retry.reserved")
	run, err := s.Get(ctx, old.RetriedBy)
	if !errors.Is(err, ErrNotFound) {
		return run, err
	}
	run = old.retry(s.now())
	if err := s.latest(ctx, &run, old.WaitingFor); err != nil {
		return Run{}, err
	}
	q, err := s.queue(ctx, run.Kind)
	if err != nil {
		return Run{}, err
	}
	run, _, err = s.accept(ctx, q, run)
	return run, err
}

// latest lets a retry wait for the newest retries of the runs that the old one waited for.
func (s *Service) latest(ctx context.Context, run *Run, waited []string) error {
	var heads []string
	run.Options.After = slices.Clone(run.Options.After)
	for _, id := range waited {
		head := id
		for next := id; next != ""; {
			dep, err := s.load(ctx, next)
			if errors.Is(err, ErrNotFound) && next != id { // reserved by a Retry that was refused
				break
			}
			if err != nil {
				return fmt.Errorf("retry, which waits for run %s: %w", next, err)
			}
			head, next = next, dep.RetriedBy
		}
		heads = append(heads, head)
		if i := slices.Index(run.Options.After, id); i >= 0 {
			run.Options.After[i] = head
		}
	}
	return s.prerequisites(ctx, run, heads)
}

// retry is the run that follows r in its chain.
func (r *Run) retry(now time.Time) Run {
	run := Run{
		ID: r.RetriedBy, Origin: r.Origin, RetryOf: r.ID, Kind: r.Kind, State: Pending, RequestID: r.RequestID, RequestHash: r.RequestHash,
		Owner: r.Owner, Target: r.Target, Payload: r.Payload, Trace: r.Trace, Options: r.Options, Planned: r.Planned, Progress: Progress{Unit: r.Progress.Unit},
		Shards: make([]ShardState, len(r.Shards)), Unplanned: r.Unplanned, Created: now, Updated: now,
	}
	if d := run.Options.Deadline; !d.IsZero() && !d.After(now) {
		run.Options.Deadline = time.Time{}
	}
	for i, shard := range r.Shards {
		if shard.Done {
			run.Shards[i] = ShardState{Done: true, Units: shard.Units, Total: shard.Total, Result: shard.Result}
			run.Finisher = i
		}
	}
	run.sum()
	return run
}
