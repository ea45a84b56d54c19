package runs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// freshRun is the age below which a run is left alone: whoever changed it last is still about to publish.
const freshRun = 2 * time.Second

// reconcile is one pass over the runs that have not ended: shards that wait without a message get one. Several
// processes may do it at the same time.
func (s *Service) reconcile(ctx context.Context) error {
	problems := []error{s.askTime(ctx)}
	begun := s.now()
	var open, old, left []Run
	err := s.survey(ctx, func(run Run) {
		switch {
		case !run.State.Terminal():
			open = append(open, run)
		case s.cfg.KeepRuns >= 0 && begun.Sub(run.Ended) > s.cfg.KeepRuns:
			old = append(old, run)
		case s.leftBehind(&run, begun):
			run.Shards, run.Payload = nil, nil
			left = append(left, run)
		}
	})
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	problems = append(problems, s.removeOld(ctx, open, old))
	if err := s.sweep(ctx, left); err != nil {
		problems = append(problems, err)
	} else {
		s.swept = begun
	}
	for _, run := range open {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.untilLimit(&run) <= 0 {
			_, err := s.expire(ctx, run.ID)
			problems = append(problems, err)
			continue
		}
		if age := s.now().Sub(run.Updated); age >= 0 && age < freshRun {
			continue
		}
		if err := s.requeue(ctx, run); err != nil {
			problems = append(problems, err)
		}
	}
	for _, q := range s.openQueues() {
		problems = append(problems, q.tend(ctx))
	}
	return errors.Join(problems...)
}

// removeOld removes the records of runs that ended long ago, but of none that another still waits for.
func (s *Service) removeOld(ctx context.Context, open, old []Run) error {
	awaited := map[string]bool{}
	for _, run := range open {
		for _, id := range run.WaitingFor {
			awaited[id] = true
		}
	}
	var problems []error
	for _, run := range old {
		if ctx.Err() != nil || awaited[run.ID] {
			continue
		}
		if err := s.remove(ctx, run); err != nil {
			problems = append(problems, err)
			continue
		}
		s.log.Info("run removed", zap.String("run", run.ID), zap.String("kind", run.Kind), zap.Time("ended", run.Ended))
	}
	return errors.Join(problems...)
}

// unfinished reads the runs that have not ended.
func (s *Service) unfinished(ctx context.Context) ([]Run, error) {
	var open []Run
	err := s.survey(ctx, func(run Run) {
		if !run.State.Terminal() {
			open = append(open, run)
		}
	})
	return open, err
}

// survey reads all runs in one stream.
func (s *Service) survey(ctx context.Context, see func(Run)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watcher, err := s.docs.Watch(ctx, runKey("*"), jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read runs: %w", err)
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(askWait): // nothing more comes: the queue cannot be reached
			return fmt.Errorf("read runs: %w", context.DeadlineExceeded)
		case entry, ok := <-watcher.Updates():
			if !ok {
				return errors.New("read runs: the connection was closed")
			}
			if entry == nil { // all that there is now
				return nil
			}
			run, err := decode(entry)
			if err != nil {
				s.log.Error("unreadable run", zap.Error(err))
				continue
			}
			see(run)
		}
	}
}

// requeue publishes the messages that a run misses.
func (s *Service) requeue(ctx context.Context, run Run) error {
	if len(run.WaitingFor) > 0 {
		return s.advance(ctx, run.ID)
	}
	// Names that change make sure that a message which is lost again comes back, in spite of the server's memory of names.
	return s.publishAll(ctx, run, "m"+strconv.FormatInt(s.now().Unix()/60, 10))
}

// publishAll publishes the messages that a run misses, under names of this generation.
func (s *Service) publishAll(ctx context.Context, run Run, generation string) error {
	due := run.due()
	if len(due) == 0 {
		return nil
	}
	q, err := s.queue(ctx, run.Kind)
	if err != nil {
		return err
	}
	queued, err := q.queued(ctx, &run)
	if err != nil {
		return err
	}
	c := caller{q: q, run: &run}
	for _, unit := range due {
		if queued[q.subjectOf(&run, unitToken(unit))] > 0 {
			continue
		}
		switch err := q.publish(ctx, &run, unit, generation); {
		case errors.Is(err, errQueued):
		case err != nil:
			return errors.Join(err, c.done(ctx))
		default:
			s.point("reconcile.published")
			c.published(ctx)
		}
	}
	if c.count > 0 {
		s.log.Info("shards are queued", zap.String("run", run.ID), zap.String("kind", run.Kind), zap.Int("shards", c.count),
			zap.String("trace_id", run.TraceID()))
	}
	return c.done(ctx)
}
