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
	open, old, err := s.survey(ctx)
	if err != nil {
		return err
	}
	problems := []error{s.removeOld(ctx, open, old)}
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
	open, _, err := s.survey(ctx)
	return open, err
}

// survey reads all runs in one stream and returns those that have not ended, and those that ended longer ago than
// Config.KeepRuns.
func (s *Service) survey(ctx context.Context) (open, old []Run, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watcher, err := s.docs.Watch(ctx, runKey("*"), jetstream.IgnoreDeletes())
	if err != nil {
		return nil, nil, fmt.Errorf("read runs: %w", err)
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(askWait): // nothing more comes: the queue cannot be reached
			return nil, nil, fmt.Errorf("read runs: %w", context.DeadlineExceeded)
		case entry, ok := <-watcher.Updates():
			if !ok {
				return nil, nil, errors.New("read runs: the connection was closed")
			}
			if entry == nil { // all that there is now
				return open, old, nil
			}
			run, err := decode(entry)
			if err != nil {
				s.log.Error("unreadable run", zap.Error(err))
				continue
			}
			switch {
			case !run.State.Terminal():
				open = append(open, run)
			case s.cfg.KeepRuns >= 0 && s.now().Sub(run.Ended) > s.cfg.KeepRuns:
				old = append(old, run)
			}
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
	published := 0
	for _, unit := range due {
		if queued[q.subjectOf(&run, unitToken(unit))] > 0 {
			continue
		}
		switch err := q.publish(ctx, &run, unit, generation); {
		case errors.Is(err, errQueued):
		case err != nil:
			return errors.Join(err, q.ready(ctx, &run, published))
		default:
			s.point("reconcile.published")
			published++
		}
	}
	if published > 0 {
		s.log.Info("shards are queued", zap.String("run", run.ID), zap.String("kind", run.Kind), zap.Int("shards", published),
			zap.String("trace_id", run.TraceID()))
	}
	return q.ready(ctx, &run, published)
}
