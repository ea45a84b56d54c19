package runs

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestPurgeLeavesOthers pauses a run of which a worker holds a message, while an older message of another run is with a
// worker that has died. That one must come back.
func TestPurgeLeavesOthers(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.AckWait = time.Second
	s := mesh(t, cfg)
	bystander, paused := submit(t, s, Spec{}), submit(t, s, Spec{})
	for range 2 {
		submit(t, s, Spec{}) // acknowledged before the lease of the bystander has run out
	}
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	board := newBoard(q)
	for range 2 {
		hold(t, board)
	}
	if err := q.purge(t.Context(), &paused, nil); err != nil {
		t.Fatal(err)
	}
	if left, err := q.queued(t.Context(), &paused); err != nil || len(left) > 0 {
		t.Errorf("left of the paused run: %v, %v", left, err)
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	done, _ := await(t, s, bystander.ID)
	wantState(t, done, Succeeded)
}

// TestWatchHalfRemoved watches a run whose removal died before it took the document away: it has ended, and its watchers
// learn that at once, although the server remembers the event that is gone.
func TestWatchHalfRemoved(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	run := submit(t, s, Spec{})
	await(t, s, run.ID)
	if err := s.events.Purge(t.Context(), jetstream.WithPurgeSubject(s.eventSubject(run.ID))); err != nil {
		t.Fatal(err)
	}
	done, events := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	if len(events) != 1 {
		t.Errorf("%d events, want the end alone", len(events))
	}
}
