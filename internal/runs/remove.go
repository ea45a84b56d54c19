package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// tombstone is how long the bucket remembers that a document was removed, so that watchers learn of it.
const tombstone = time.Hour

// Delete removes the record of a run that has ended, with its events, its request id and what was kept for a retry;
// not what it made. ErrState when it has not ended.
func (s *Service) Delete(ctx context.Context, id string) error {
	run, err := s.load(ctx, id)
	if err != nil {
		return err
	}
	if !run.State.Terminal() {
		return fmt.Errorf("delete run %s, which is %s; cancel it first: %w", id, run.State, ErrState)
	}
	return s.remove(ctx, run)
}

// remove takes away everything that a run has left, its document last: a remove that dies is done again.
func (s *Service) remove(ctx context.Context, run Run) error {
	s.ended(ctx, run) // nobody may still wait for it
	if err := s.forget(ctx, run); err != nil {
		return fmt.Errorf("remove run %s: %w", run.ID, err)
	}
	q, err := s.queue(ctx, run.Kind)
	if err != nil {
		return err
	}
	if err := q.purge(ctx, &run, nil); err != nil {
		return fmt.Errorf("remove the messages of run %s: %w", run.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	if err := s.events.Purge(ctx, jetstream.WithPurgeSubject(s.eventSubject(run.ID))); err != nil {
		return fmt.Errorf("remove the events of run %s: %w", run.ID, err)
	}
	if err := s.dead.Purge(ctx, jetstream.WithPurgeSubject(s.deadSubject("*", run.ID, "*"))); err != nil {
		return fmt.Errorf("remove the dead letter of run %s: %w", run.ID, err)
	}
	if err := s.unreserve(ctx, run); err != nil {
		return fmt.Errorf("remove the request id of run %s: %w", run.ID, err)
	}
	s.point("delete.emptied")
	err = s.docs.Purge(ctx, runKey(run.ID), jetstream.LastRevision(run.revision), jetstream.PurgeTTL(tombstone))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return fmt.Errorf("remove run %s: it was changed meanwhile, try again: %w", run.ID, ErrState)
	}
	if err != nil {
		return fmt.Errorf("remove run %s: %w", run.ID, err)
	}
	return nil
}

// forget calls Deps.Forget for the last run of a chain of retries.
func (s *Service) forget(ctx context.Context, run Run) error {
	if s.forgets == nil || run.State == Succeeded {
		return nil
	}
	if run.RetriedBy != "" {
		if _, err := s.load(ctx, run.RetriedBy); !errors.Is(err, ErrNotFound) {
			return err // the run that is there has it
		}
	}
	return s.forgets(ctx, run)
}

// unreserve frees the request id, where it still stands for this run.
func (s *Service) unreserve(ctx context.Context, run Run) error {
	key := requestKey(Spec{Owner: run.Owner, Kind: run.Kind, RequestID: run.RequestID})
	value, revision, err := s.read(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var found reservation
	if err := json.Unmarshal(value, &found); err != nil {
		return err
	}
	if found.Run != run.ID {
		return nil
	}
	err = s.docs.Purge(ctx, key, jetstream.LastRevision(revision), jetstream.PurgeTTL(tombstone))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) { // somebody else has freed it
		return nil
	}
	return err
}
