package runs

import (
	"context"
	"math"
	"testing"
	"time"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	a := submit(t, s, Spec{Owner: "ann", Shards: 4})
	b := submit(t, s, Spec{Owner: "ann", Shards: 2})
	c := submit(t, s, Spec{Owner: "bob", Shards: 9})
	d := submit(t, s, Spec{Owner: "eve", Options: Options{Priority: High}})
	low := submit(t, s, Spec{Options: Options{Priority: Low}})
	for _, want := range []struct {
		name string
		run  Run
		Place
	}{
		{"high", d, Place{Waiting: 1}},
		{"the first", a, Place{Ahead: 1, Waiting: 4}},           // the high one
		{"of the same owner", b, Place{Ahead: 9, Waiting: 2}},   // high, 4 of a, and 4 turns of bob
		{"of another owner", c, Place{Ahead: 2, Waiting: 9}},    // high, and ann's first turn
		{"after everything", low, Place{Ahead: 16, Waiting: 1}}, // 1 + 6 + 9
	} {
		got, ok, err := s.Place(t.Context(), &want.run)
		if err != nil || !ok || got != want.Place {
			t.Errorf("%s: %+v, %v, %v; want %+v", want.name, got, ok, err, want.Place)
		}
	}
	if ended, err := s.Cancel(t.Context(), d.ID); err != nil {
		t.Error(err)
	} else if _, ok, err := s.Place(t.Context(), &ended); ok || err != nil {
		t.Errorf("an ended run has a place: %v", err)
	}
}

func TestTimeLeft(t *testing.T) {
	t.Parallel()
	measured := tally{Seconds: 100, Units: 50, Shards: 10} // 2 s a unit, 10 s a shard
	run := func(shards ...ShardState) *Run {
		r := &Run{Shards: shards, Planned: 20, Progress: Progress{}}
		r.sum()
		return r
	}
	open := ShardState{}
	quick := ShardState{Done: true, Units: 10, Millis: 5000} // half a second a unit
	for _, c := range []struct {
		name  string
		run   *Run
		queue QueueState
		ahead int64
		want  time.Duration
	}{
		{"nothing measured", run(open, open), QueueState{InFlight: 1}, 0, 0},
		{"nobody at work", run(open, open), QueueState{tally: measured}, 0, 0},
		{"one worker", run(open, open), QueueState{tally: measured, InFlight: 1}, 0, 40 * time.Second},
		{"more workers than shards", run(open, open), QueueState{tally: measured, InFlight: 9}, 0, 20 * time.Second},
		{"behind others", run(open, open), QueueState{tally: measured, InFlight: 2}, 6, 50 * time.Second},
		{"its own speed", run(quick, open), QueueState{tally: measured, InFlight: 2}, 0, 5 * time.Second},
		{"no total", &Run{Shards: []ShardState{open}, ShardCount: 1}, QueueState{tally: measured, InFlight: 1}, 0, 0},
	} {
		if got := timeLeft(c.run, c.queue, c.ahead); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestTallyAges(t *testing.T) {
	t.Parallel()
	slow := tally{Seconds: 100, Units: 10, Shards: 1, Updated: epoch}
	after := slow.add(tally{Seconds: 10, Units: 10, Shards: 1}, epoch.Add(rateHalfLife))
	if got, want := after.perUnit(), 60.0/15; math.Abs(got-want) > 1e-12 {
		t.Errorf("after a half-life %g s a unit, want %g", got, want)
	}
	idle := slow.add(tally{}, epoch.Add(1000*rateHalfLife))
	if got := idle.perUnit(); math.Abs(got-10) > 1e-9 {
		t.Errorf("after a long silence %g s a unit, want 10", got)
	}
	if (tally{}).perUnit() != 0 || (tally{}).perSecond() != 0 || (tally{}).perShard() != 0 {
		t.Error("nothing measured is a speed")
	}
}

// TestSpeedIsMeasured has a unit take 10 ms, and a shard that goes on from a check-point claim a thousand.
func TestSpeedIsMeasured(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	const perUnit = 10 * time.Millisecond
	failed := make(chan struct{}, 1)
	failed <- struct{}{}
	serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		if task.Shard == 1 {
			select {
			case <-failed:
				task.Report(1000, 1000, "")
				return nil, errFlaky
			default:
				task.Report(1000, 1000, "") // at once: it was done before
				return nil, nil
			}
		}
		time.Sleep(5 * perUnit)
		task.Report(5, 5, "")
		return nil, nil
	}})
	if _, err := s.queue(t.Context(), "dream"); err != nil {
		t.Fatal(err)
	}
	if state, err := s.DescribeQueue(t.Context(), "dream"); err != nil || state.UnitsPerSecond != 0 {
		t.Errorf("before anything was done: %+v, %v", state, err)
	}
	run, _ := await(t, s, submit(t, s, Spec{Shards: 3, Unit: "pictures"}).ID)
	wantState(t, run, Succeeded)
	if run.Shards[0].Millis < 50 || run.Shards[1].Millis != 0 {
		t.Errorf("measured: %+v", run.Shards)
	}
	got, err := s.PerUnit(t.Context(), "dream")
	if err != nil || got < perUnit || got > 50*perUnit {
		t.Errorf("%s a unit, %v; it takes at least %s", got, err, perUnit)
	}
	state, err := s.DescribeQueue(t.Context(), "dream")
	if err != nil || state.UnitsPerSecond <= 0 || state.UnitsPerSecond > 100 {
		t.Errorf("%g units per second, %v", state.UnitsPerSecond, err)
	}
}
