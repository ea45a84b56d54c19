package runs

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dreamood/dreamood/internal/fault"
)

// TestClockLearns gives a clock answers of a server that is an hour ahead: worse ones change nothing, better ones and such
// that disagree do.
func TestClockLearns(t *testing.T) {
	t.Parallel()
	var c clock
	if _, ok := c.now(); ok {
		t.Error("a time before the first answer")
	}
	begin := time.Now()
	answer := func(at, trip, server time.Duration) {
		sent := begin.Add(at)
		c.learn(sent.Add(trip/2).Add(server).Round(0), sent, sent.Add(trip))
	}
	ahead := func() time.Duration { return c.server.Sub(c.asked) }
	for _, step := range []struct {
		at, trip, server, want time.Duration
		why                    string
	}{
		{0, 20 * time.Millisecond, time.Hour, time.Hour, "the first answer"},
		{time.Second, 40 * time.Millisecond, time.Hour + 15*time.Millisecond, time.Hour, "a worse answer that agrees"},
		{2 * time.Second, 2 * time.Millisecond, time.Hour + 5*time.Millisecond, time.Hour + 5*time.Millisecond, "a better answer"},
		{3 * time.Second, 40 * time.Millisecond, 2 * time.Hour, 2 * time.Hour, "the server's time was set"},
		{4 * time.Second, 10 * time.Millisecond, 2*time.Hour - time.Millisecond, 2*time.Hour - time.Millisecond, "better again"},
		{3 * time.Minute, 20 * time.Millisecond, 2 * time.Hour, 2 * time.Hour, "after minutes of drift, a worse trip is better"},
	} {
		answer(step.at, step.trip, step.server)
		if got := ahead(); (got - step.want).Abs() > time.Microsecond {
			t.Errorf("%s: the server is %s ahead, want %s", step.why, got, step.want)
		}
	}
}

// TestLimitsByTheServersClock has a worker and a reconciler on machines whose clocks are hours off and jump all the time:
// runs end at their limits by the server's time, and no other run ends.
func TestLimitsByTheServersClock(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	client := newService(t, b, fast)
	core, lines := observer.New(zap.WarnLevel)
	jumping := func(off time.Duration) *Service {
		s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Log: zap.New(core), Clock: func() time.Time {
			return time.Now().Round(0).Add(off + time.Duration(rand.Int64N(int64(time.Hour)))) // without a monotonic reading
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.Start()
		return s
	}
	jumping(6 * time.Hour)
	worker := jumping(-6 * time.Hour)
	if n := lines.FilterMessageSnippet("this machine's time is not").Len(); n != 2 {
		t.Errorf("%d of 2 machines have said that their clocks are off", n)
	}
	long := submit(t, client, Spec{Kind: "other", Options: Options{TimeLimit: time.Hour, Deadline: time.Now().Add(time.Hour)}})
	waits := submit(t, client, Spec{Kind: "waits", Options: Options{Deadline: time.Now().Add(1500 * time.Millisecond)}})
	begun := make(chan time.Time, 1)
	serve(t, worker, Worker{Kind: "dream", Work: func(ctx context.Context, _ *Task) ([]byte, error) {
		begun <- time.Now()
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	works := submit(t, client, Spec{Options: Options{TimeLimit: time.Second}})
	at := <-begun
	for _, c := range []struct {
		run  Run
		due  time.Time
		most time.Duration // after it
	}{{works, at.Add(time.Second), 3 * time.Second}, {waits, waits.Options.Deadline, 3 * time.Second}} {
		done, _ := await(t, client, c.run.ID)
		wantState(t, done, Failed)
		if late := done.Ended.Sub(c.due); done.Failure.Reason != string(fault.DeadlineExceeded) || late < -50*time.Millisecond || late > c.most {
			t.Errorf("%s ended %s after its limit: %+v", c.run.Kind, late, done.Failure)
		}
	}
	stop := serve(t, worker, Worker{Kind: "other", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	done, _ := await(t, client, long.ID)
	stop()
	wantState(t, done, Succeeded)
	if off := time.Since(done.Ended); off < 0 || off > time.Minute {
		t.Errorf("a worker whose clock is hours off has stamped %s ago", off)
	}
}
