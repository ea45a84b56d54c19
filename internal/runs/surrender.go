package runs

import (
	"context"
	"sync"

	"go.uber.org/zap"
)

// Surrender gives back the shards under way although their work has not returned, without counting their attempts, and
// says how many. The work has no claim any more: what it still makes cannot be committed. It is for a process that has
// been told to stop and ends now; what cannot be given back before ctx ends goes to another worker when its lease runs
// out, and counts as an attempt.
func (s *Service) Surrender(ctx context.Context) int {
	var group sync.WaitGroup
	var mu sync.Mutex
	given := 0
	s.leases.Range(func(key, _ any) bool {
		group.Go(func() {
			if key.(*lease).surrender(ctx) {
				mu.Lock()
				defer mu.Unlock()
				given++
			}
		})
		return true
	})
	group.Wait()
	if given > 0 { // giving back is not answered
		if err := s.js.Conn().FlushWithContext(ctx); err != nil {
			s.log.Warn("surrender", zap.Error(err))
		}
	}
	return given
}

// surrender takes back the claim of an attempt whose work goes on, and says whether it did: not when the attempt has
// committed, or has lost the shard.
func (l *lease) surrender(ctx context.Context) (given bool) {
	_, err := l.s.change(ctx, l.id, func(run *Run) error {
		if run.revision < l.run.revision {
			return errStale
		}
		if given = l.holds(run); !given {
			return errKeep
		}
		u := run.unit(l.unit)
		u.Claim = ""
		u.Attempt--
		return nil
	})
	if err != nil {
		l.log.Warn("shard is not given back", zap.Error(err))
		return false
	}
	if given {
		l.logAttempt("surrendered", nil)
		l.step("released")
		l.giveBack(0)
	}
	return given
}
