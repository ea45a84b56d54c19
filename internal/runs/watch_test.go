package runs

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestWatchFromTheMiddle(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	middle := make(chan Event, 100)
	goOn := make(chan struct{})
	serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		task.Report(1, 2, "half")
		<-goOn
		task.Report(2, 2, "whole")
		return nil, nil
	}})
	enough := errors.New("enough")
	err := s.Watch(t.Context(), run.ID, 0, func(e Event) error {
		middle <- e
		if e.Run.Progress.Done == 1 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("the error of yield: %v", err)
	}
	close(middle)
	var before []Event
	for e := range middle {
		before = append(before, e)
	}
	close(goOn)
	from := before[len(before)-1].Sequence
	var after []Event
	if err := s.Watch(t.Context(), run.ID, from, func(e Event) error { after = append(after, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(after) == 0 || after[0].Sequence <= from {
		t.Fatalf("%d events after %d, the first %+v", len(after), from, after)
	}
	last := after[len(after)-1]
	if last.Run.State != Succeeded || last.Run.Progress.Done != 2 || last.Time.IsZero() {
		t.Errorf("last: %+v", last)
	}
	_, all := await(t, s, run.ID)
	if len(all) != len(before)+len(after) {
		t.Errorf("%d events in two parts, %d in one", len(before)+len(after), len(all))
	}
	err = s.Watch(t.Context(), run.ID, last.Sequence, func(e Event) error { t.Errorf("after the end: %+v", e); return nil })
	if err != nil {
		t.Error(err)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Watch(ctx, run.ID, run.Sequence, func(e Event) error { t.Errorf("%+v", e); return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestWatchRepairsTheEnd ends a run without telling, as a process does that dies between the two.
func TestWatchRepairsTheEnd(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	if _, err := s.change(t.Context(), run.ID, func(run *Run) error { run.end(Cancelled, s.now()); return nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second watcher finds what the first one published
		_, events := await(t, s, run.ID)
		if len(events) != 2 || events[1].Run.State != Cancelled {
			t.Errorf("events: %+v", events)
		}
	}
	got, err := s.Get(t.Context(), run.ID)
	if err != nil || s.Watch(t.Context(), run.ID, got.Sequence, nil) != nil {
		t.Errorf("watch after the last: %v", err)
	}
}
