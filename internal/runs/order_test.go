package runs

import (
	"context"
	"errors"
	"testing"
)

// TestNothingAfterTheEnd: a slot that is slower to tell of its claim than another is to end the run says nothing any
// more.
func TestNothingAfterTheEnd(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	claimed, err := s.change(t.Context(), run.ID, func(run *Run) error { run.State = Running; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Cancel(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	if sequence := s.announce(t.Context(), claimed); sequence != 0 {
		t.Errorf("told as event %d after the end", sequence)
	}
	last, err := s.lastEvent(t.Context(), run.ID)
	if err != nil || last.Run.State != Cancelled {
		t.Errorf("the last event is %s, %v", last.Run.State, err)
	}
}

// TestEndsAreForgotten bounds what a process remembers of runs that have ended.
func TestEndsAreForgotten(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	for range knownEnds + 3 {
		run := Run{ID: newID(s.now()), State: Succeeded, revision: 1}
		if s.announce(t.Context(), run) == 0 {
			t.Fatal("the end was not told")
		}
	}
	if len(s.voices) != knownEnds || len(s.ends) != knownEnds {
		t.Errorf("%d voices, %d ends, want %d", len(s.voices), len(s.ends), knownEnds)
	}
}

// TestServeEndedAtOnce: a worker that is told to stop before it has begun has nothing to complain about.
func TestServeEndedAtOnce(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }}); err != nil {
		t.Error(err)
	}
}

// TestRetryAfterRefusedRetry: a retry that was refused, because what it waits for is to be retried first, has the same
// answer for those that wait for it.
func TestRetryAfterRefusedRetry(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	first := submit(t, s, Spec{})
	second := submit(t, s, Spec{Options: Options{After: []string{first.ID}}})
	third := submit(t, s, Spec{Options: Options{After: []string{second.ID}}})
	if _, err := s.Cancel(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{second.ID, third.ID} {
		if _, err := s.Retry(t.Context(), id); !errors.Is(err, ErrState) {
			t.Errorf("retry of what waits for a run that was cancelled: %v, want ErrState", err)
		}
	}
}
