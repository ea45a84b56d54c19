package runs

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
)

// limit is when the time of a run is up, and why; the zero time when there is none, or while it is paused before its
// time limit.
func (r *Run) limit() (at time.Time, why string) {
	at, why = r.Options.Deadline, "the deadline has passed"
	if r.Options.TimeLimit == 0 || r.Started.IsZero() || r.State == Paused {
		return at, why
	}
	if end := r.Started.Add(r.PausedFor + r.Options.TimeLimit); at.IsZero() || end.Before(at) {
		return end, fmt.Sprintf("the time limit of %s is over", r.Options.TimeLimit)
	}
	return at, why
}

// expire fails the run when its time is up, and says whether it did.
func (r *Run) expire(now time.Time) bool {
	at, why := r.limit()
	if r.State.Terminal() || at.IsZero() || now.Before(at) {
		return false
	}
	r.Failure = &Failure{
		Reason:  string(fault.DeadlineExceeded),
		Message: fmt.Sprintf("%s (%s), %d of %d shards are done; retry it to go on from there", why, at.Format(time.RFC3339), r.ShardsDone, r.ShardCount),
	}
	r.end(Failed, now)
	return true
}

// untilLimit is how long a run may still take; very long when it has no limit.
func (s *Service) untilLimit(run *Run) time.Duration {
	at, _ := run.limit()
	if at.IsZero() {
		return math.MaxInt64
	}
	return at.Sub(s.now())
}

// expire ends a run whose time is up, and tells of it.
func (s *Service) expire(ctx context.Context, id string) (Run, error) {
	expired := false
	run, err := s.change(ctx, id, func(run *Run) error {
		if expired = run.expire(s.now()); !expired {
			return errKeep
		}
		return nil
	})
	if err == nil && expired {
		s.point("expired.written")
		run.Sequence = s.announce(ctx, run)
	}
	return run, err
}
