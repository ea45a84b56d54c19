package runs

import (
	"context"
	"fmt"
	"strconv"

	"go.uber.org/zap"
)

// Cancel ends a run at once and for good; its workers notice within a second. A run that has ended is returned as it is.
func (s *Service) Cancel(ctx context.Context, id string) (Run, error) {
	run, err := s.steer(ctx, id, func() { s.point("cancel.written") }, func(run *Run) error {
		if run.State.Terminal() {
			return errKeep
		}
		run.CancelRequested = true
		run.end(Cancelled, s.now())
		return nil
	})
	if err != nil || run.State != Cancelled {
		return run, err
	}
	if err := s.discard(ctx, run); err != nil { // workers drop the messages of a run that has ended, and the reconciler does
		s.log.Warn("messages of a cancelled run stay in the queue", zap.String("run", id), zap.Error(err))
	}
	return run, nil
}

// Pause takes a run out of the queue until Resume. Work under way ends within a second, with the cause ErrPaused, and
// counts as no attempt; work that is complete at that moment is committed all the same. A paused run is returned as it
// is; ErrState when it has ended.
func (s *Service) Pause(ctx context.Context, id string) (Run, error) {
	run, err := s.steer(ctx, id, func() { s.point("pause.written") }, func(run *Run) error {
		switch {
		case run.State.Terminal():
			return fmt.Errorf("pause run %s, which is %s: %w", id, run.State, ErrState)
		case run.State == Paused:
			return errKeep
		}
		run.State, run.PausedAt = Paused, s.now()
		run.Pauses++
		return nil
	})
	if err != nil {
		return Run{}, err
	}
	if err := s.withdrawMessages(ctx, run); err != nil { // workers drop the messages of a paused run, too
		s.log.Warn("messages of a paused run stay in the queue", zap.String("run", id), zap.Error(err))
	}
	return run, nil
}

// withdrawMessages empties the queue of a paused run, and fills it again when it was resumed meanwhile.
func (s *Service) withdrawMessages(ctx context.Context, run Run) error {
	q, err := s.queue(ctx, run.Kind)
	if err != nil {
		return err
	}
	if err := q.purge(ctx, &run, nil); err != nil {
		return err
	}
	s.point("pause.purged")
	now, err := s.load(ctx, run.ID)
	if err != nil || now.Pauses == run.Pauses && now.State == Paused {
		return err
	}
	return s.publishAll(ctx, now, "p"+strconv.FormatUint(run.revision, 10))
}

// Resume puts a paused run back into the queue. A run that is not paused is returned as it is; ErrState when it has
// ended.
func (s *Service) Resume(ctx context.Context, id string) (Run, error) {
	run, err := s.steer(ctx, id, func() { s.point("resume.written") }, func(run *Run) error {
		switch {
		case run.State.Terminal():
			return fmt.Errorf("resume run %s, which is %s: %w", id, run.State, ErrState)
		case run.State != Paused:
			return errKeep
		}
		run.resume(s.now())
		return nil
	})
	if err != nil {
		return Run{}, err
	}
	if err := s.publishAll(ctx, run, "r"+strconv.FormatUint(run.revision, 10)); err != nil { // the reconciler does it later
		s.log.Warn("shards are not queued yet", zap.String("run", id), zap.Error(err))
	}
	return run, nil
}

// steer changes a run on demand and tells of it. Where f has nothing to change, what it wants may have been written by
// somebody who died before telling.
func (s *Service) steer(ctx context.Context, id string, written func(), f func(*Run) error) (Run, error) {
	changed := false
	run, err := s.change(ctx, id, func(run *Run) error {
		err := f(run)
		changed = err == nil
		return err
	})
	if err != nil {
		return Run{}, err
	}
	if !changed {
		if _, _, err := s.settleEvents(ctx, id); err != nil {
			return Run{}, err
		}
		return s.Get(ctx, id)
	}
	written()
	run.Sequence = s.announce(ctx, run)
	return run, nil
}
