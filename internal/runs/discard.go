package runs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Messages of runs that have ended are dropped by the workers who get them, which also clean up (Worker.Abandon). Where
// there are no workers the messages would stay, and an autoscaler would start some for nothing: so Cancel takes away those
// that nobody holds, and the reconciler whatever is left after a while.

// discard removes the messages of a run that has ended, but of those shards that were in somebody's hands at its end.
func (s *Service) discard(ctx context.Context, run Run) error {
	q, err := s.queue(ctx, run.Kind)
	if err != nil {
		return err
	}
	held := map[string]bool{}
	hold := func(unit int, state *ShardState) {
		if state.Claim != "" {
			held[q.subjectOf(&run, unitToken(unit))] = true
		}
	}
	hold(planUnit, &run.Planning)
	if run.allDone() { // whoever did the last shard goes on to the finish
		held[q.subjectOf(&run, unitToken(run.Finisher))] = true
	}
	for i := range run.Shards {
		if !run.Shards[i].Done {
			hold(i, &run.Shards[i])
		}
	}
	return q.purge(ctx, &run, held)
}

// sweepAfter is how long after the end of a run its workers have to drop its messages.
func (c Config) sweepAfter() time.Duration { return 2 * c.AckWait }

// leftBehind says whether this pass of the reconciler is the first one that may look for the messages of an ended run. The
// first pass of a process looks at all that are kept. A run that SUCCEEDED had one worker for its last message.
func (s *Service) leftBehind(run *Run, now time.Time) bool {
	const overlap = time.Minute // ends are stamped by others
	due := run.Ended.Add(s.cfg.sweepAfter())
	return run.State != Succeeded && !now.Before(due) && due.After(s.swept.Add(-overlap))
}

// sweep removes what is left of the messages of ended runs, after the dead letter that one of them stands for is written.
func (s *Service) sweep(ctx context.Context, left []Run) error {
	var problems []error
	for _, run := range left {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.sweepOne(ctx, run); err != nil {
			problems = append(problems, fmt.Errorf("messages of run %s, which has ended: %w", run.ID, err))
		}
	}
	return errors.Join(problems...)
}

func (s *Service) sweepOne(ctx context.Context, run Run) error {
	q, err := s.queue(ctx, run.Kind)
	if err != nil {
		return err
	}
	queued, err := q.queued(ctx, &run)
	if err != nil || len(queued) == 0 {
		return err
	}
	if run, err = s.load(ctx, run.ID); errors.Is(err, ErrNotFound) { // deleted since, with its messages
		return nil
	}
	if err == nil && run.Dead != nil {
		err = s.bury(ctx, run)
	}
	if err != nil {
		return err
	}
	return q.purge(ctx, &run, nil)
}
