package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
)

// A run that waits for others is in their documents, in Dependents, before it has one of its own. Whoever ends one of
// them looks into that list and brings the waiting runs up to date; the reconciler does it again for a process that
// died in between. The runs that are named exist already, so there are no circles.

// maxDependents may wait for one run.
const maxDependents = 512

// prerequisites sets WaitingFor to those runs that have not ended. One that cannot succeed any more is an error.
func (s *Service) prerequisites(ctx context.Context, run *Run, after []string) error {
	run.WaitingFor = nil
	for _, id := range after {
		dep, err := s.load(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound), err == nil && run.Owner != "" && dep.Owner != run.Owner:
			return fmt.Errorf("%w run: after %s: %w", ErrInvalid, ood.Runs.Name(id), ErrNotFound)
		case err != nil:
			return err
		case dep.State == Succeeded:
		case dep.State.Terminal():
			return fmt.Errorf("after %s, which is %s; retry that one first: %w", ood.Runs.Name(id), dep.State, ErrState)
		default:
			run.WaitingFor = append(run.WaitingFor, id)
		}
	}
	return nil
}

// waitFor enters a run with those that it waits for.
func (s *Service) waitFor(ctx context.Context, run *Run) error {
	for _, id := range run.WaitingFor {
		_, err := s.change(ctx, id, func(dep *Run) error {
			switch {
			case dep.State.Terminal(), slices.Contains(dep.Dependents, run.ID):
				return errKeep
			case len(dep.Dependents) >= maxDependents:
				return fmt.Errorf("after %s, for which %d runs wait already: %w", ood.Runs.Name(id), maxDependents, ErrState)
			}
			dep.Dependents = append(slices.Clone(dep.Dependents), run.ID)
			return nil
		})
		if err != nil && !errors.Is(err, ErrNotFound) { // advance says that it is gone
			return err
		}
	}
	return nil
}

// ended brings those up to date that wait for a run which has ended.
func (s *Service) ended(ctx context.Context, run Run) {
	ctx = context.WithoutCancel(ctx)
	for _, id := range run.Dependents {
		s.point("dependent.waits")
		if err := s.advance(ctx, id); err != nil { // the reconciler tries again
			s.log.Warn("run is not released yet", zap.String("run", id), zap.String("after", run.ID), zap.Error(err))
		}
	}
}

// advance brings a run up to date with those that it waits for: it is queued when all have succeeded, and fails when
// one of them cannot succeed any more.
func (s *Service) advance(ctx context.Context, id string) error {
	run, err := s.load(ctx, id)
	if errors.Is(err, ErrNotFound) { // not accepted yet, or deleted
		return nil
	}
	if err != nil || run.State.Terminal() {
		return err
	}
	met, broken, err := s.lookAfter(ctx, run.WaitingFor)
	if err != nil || len(met) == 0 && broken == "" {
		return err
	}
	changed := false
	run, err = s.change(ctx, id, func(run *Run) error {
		changed = false
		if run.State.Terminal() || len(run.WaitingFor) == 0 {
			return errKeep
		}
		if broken != "" {
			run.Failure = &Failure{Reason: string(fault.FailedPrecondition), Message: broken}
			run.end(Failed, s.now())
		}
		run.WaitingFor = slices.DeleteFunc(slices.Clone(run.WaitingFor), func(id string) bool { return slices.Contains(met, id) })
		changed = true
		return nil
	})
	if err != nil || !changed {
		return err
	}
	s.point("dependent.released")
	s.announce(ctx, run)
	return s.publishAll(ctx, run, fmt.Sprintf("d%d", run.revision))
}

// lookAfter says which of the runs have succeeded, and of one that cannot succeed any more, why.
func (s *Service) lookAfter(ctx context.Context, ids []string) (met []string, broken string, err error) {
	for _, id := range ids {
		dep, err := s.load(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound):
			return met, fmt.Sprintf("it had to wait for %s, which was deleted", ood.Runs.Name(id)), nil
		case err != nil:
			return met, "", err
		case dep.State == Succeeded:
			met = append(met, id)
		case dep.State.Terminal():
			why := ""
			if dep.Failure != nil {
				why = ": " + dep.Failure.Message
			}
			return met, clip(fmt.Sprintf("it had to wait for %s, which is %s%s", ood.Runs.Name(id), dep.State, why), 4096), nil
		}
	}
	return met, "", nil
}
