package runs

import (
	"context"
	"errors"
	"testing"
	"time"
)

// awaitQueue waits until so many shards wait and are in flight, in the description and in the stream itself.
func awaitQueue(t *testing.T, s *Service, waiting, inFlight int64) QueueState {
	t.Helper()
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := s.DescribeQueue(t.Context(), "dream")
		if err != nil {
			t.Fatal(err)
		}
		info, err := q.stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if state.Waiting == waiting && state.InFlight == inFlight && info.State.Msgs == uint64(waiting+inFlight) {
			return state
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, %d are in flight, %d messages; want %d and %d: %+v", state.Waiting, state.InFlight, info.State.Msgs, waiting, inFlight, state.Lanes)
		}
	}
}

// TestQueueIsDescribed follows what an autoscaler reads through work, a pause, a poison shard and a cancelled run.
func TestQueueIsDescribed(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	if _, err := s.DescribeQueue(t.Context(), "nothing"); !errors.Is(err, ErrNoQueue) {
		t.Errorf("a queue that is not there: %v", err)
	}
	if _, err := s.DescribeQueue(t.Context(), "a.b"); !errors.Is(err, ErrInvalid) {
		t.Errorf("no kind: %v", err)
	}
	started, goOn := make(chan string, 9), make(chan error)
	serve(t, s, Worker{Kind: "dream", Work: func(ctx context.Context, task *Task) ([]byte, error) {
		started <- task.Run.Target
		select {
		case err := <-goOn:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	a := submit(t, s, Spec{Owner: "ann", Target: "a", Shards: 3})
	<-started
	b := submit(t, s, Spec{Owner: "bob", Target: "b", Shards: 2, Options: Options{Priority: Low}})
	state := awaitQueue(t, s, 4, 1)
	if l := state.Lanes; len(l) != 2 || l[0].Owner != "ann" || l[0].Waiting != 2 || l[0].InFlight != 1 || l[1].Owner != "bob" || l[1].Class != Low {
		t.Errorf("lanes: %+v", l)
	}
	if state.Oldest <= 0 || state.Oldest != max(state.Lanes[0].Oldest, state.Lanes[1].Oldest) {
		t.Errorf("ages: %+v", state)
	}
	if _, err := s.Pause(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if got := <-started; got != "b" { // the worker has gone over to the other run
		t.Errorf("%s is worked on", got)
	}
	awaitQueue(t, s, 1, 1)
	goOn <- Drop(errFlaky) // the poison shard: the run fails, its other shard goes
	failed, _ := await(t, s, b.ID)
	wantState(t, failed, Failed)
	awaitQueue(t, s, 0, 0)
	if _, err := s.Resume(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	<-started
	awaitQueue(t, s, 2, 1)
	if _, err := s.Cancel(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	awaitQueue(t, s, 0, 0)
}
