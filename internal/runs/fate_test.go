package runs

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var errFlaky = errors.New("the GPU sneezed")

func TestRetryThenSuccess(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		switch task.Attempt {
		case 1:
			return nil, errFlaky
		case 2:
			return nil, Retry(10*time.Millisecond, errFlaky)
		}
		return []byte("third"), nil
	}})
	run, events := await(t, s, submit(t, s, Spec{}).ID)
	wantState(t, run, Succeeded)
	if shard := run.Shards[0]; shard.Attempt != 3 || string(shard.Result) != "third" || shard.Error != "" {
		t.Errorf("shard: %+v", shard)
	}
	told := false
	for _, e := range events {
		told = told || strings.Contains(e.Run.Progress.Message, "attempt 1 of 3: the GPU sneezed; again in")
	}
	if !told {
		t.Error("no event tells of the failed attempt")
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Reason: func(err error) string {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return "INVALID_ARGUMENT"
		}
		return "INTERNAL"
	}})
	if err != nil {
		t.Fatal(err)
	}
	var abandoned atomic.Int32
	var other atomic.Value // why the other shard's context ended
	started := make(chan struct{})
	stop := serve(t, s, Worker{
		Kind: "dream", Concurrency: 2,
		Work: func(ctx context.Context, task *Task) ([]byte, error) {
			if task.Shard == 0 {
				<-started
				return nil, Drop(io.ErrUnexpectedEOF)
			}
			close(started)
			<-ctx.Done()
			other.Store(context.Cause(ctx))
			return nil, ctx.Err()
		},
		Finish:  func(context.Context, Run) (string, error) { t.Error("finished a failed run"); return "", nil },
		Abandon: func(_ context.Context, run Run) { wantState(t, run, Failed); abandoned.Add(1) },
	})
	run, _ := await(t, s, submit(t, s, Spec{Shards: 2}).ID)
	wantState(t, run, Failed)
	if run.Failure.Reason != "INVALID_ARGUMENT" || run.Failure.Message != "shard 0, attempt 1: unexpected EOF" || run.Ended.IsZero() {
		t.Errorf("failure: %+v", run.Failure)
	}
	wantEmptyQueue(t, s)
	stop()
	if err, _ := other.Load().(error); !errors.Is(err, ErrEnded) || abandoned.Load() != 2 {
		t.Errorf("the other shard ended with %v, %d were abandoned", err, abandoned.Load())
	}
}

func TestPoison(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	log, logs := observed()
	s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) {
		panic("poison")
	}})
	run, _ := await(t, s, submit(t, s, Spec{}).ID)
	wantState(t, run, Failed)
	if run.Shards[0].Attempt != 3 || !strings.Contains(run.Failure.Message, "panic: poison") {
		t.Errorf("failure %+v after %d attempts", run.Failure, run.Shards[0].Attempt)
	}
	attempts := logs.FilterMessage("attempt").All()
	if len(attempts) != 3 {
		t.Fatalf("%d attempts logged, want 3", len(attempts))
	}
	for _, line := range attempts {
		if stack, _ := line.ContextMap()["stack"].(string); !strings.Contains(stack, "TestPoison") {
			t.Errorf("no stack in %v", line)
		}
	}
	if lines := logs.FilterMessage("run").Len(); lines != 3 { // PENDING, RUNNING, FAILED
		t.Errorf("%d changes of state logged, want 3", lines)
	}
}

func TestFinishFails(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	var calls atomic.Int32
	serve(t, s, Worker{
		Kind: "dream",
		Work: func(context.Context, *Task) ([]byte, error) { return nil, nil },
		Finish: func(context.Context, Run) (string, error) {
			switch calls.Add(1) {
			case 1:
				return "", errFlaky
			case 2:
				panic("boom")
			}
			return "sets/third", nil
		},
	})
	run, _ := await(t, s, submit(t, s, Spec{Shards: 3}).ID)
	wantState(t, run, Succeeded)
	if run.Result != "sets/third" || calls.Load() != 3 || run.Final.Attempt != 3 {
		t.Errorf("result %q after %d calls, %+v", run.Result, calls.Load(), run.Final)
	}
	wantEmptyQueue(t, s)
}

func TestResultTooLarge(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return make([]byte, maxResults/2+1), nil }})
	run, _ := await(t, s, submit(t, s, Spec{Shards: 2}).ID)
	wantState(t, run, Failed)
	if !strings.Contains(run.Failure.Message, "put it into an artifact") {
		t.Errorf("failure: %+v", run.Failure)
	}
}

func TestCancelBeforeStart(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{Shards: 2})
	cancelled, err := s.Cancel(t.Context(), run.ID)
	if err != nil || cancelled.State != Cancelled || !cancelled.CancelRequested || cancelled.Sequence <= run.Sequence {
		t.Fatalf("%+v, %v", cancelled, err)
	}
	wantNoMessages(t, s, cancelled)
	again, err := s.Cancel(t.Context(), run.ID)
	if err != nil || again.Ended != cancelled.Ended || again.Sequence != cancelled.Sequence {
		t.Errorf("cancelled again: %+v, %v", again, err)
	}
	serve(t, s, Worker{
		Kind: "dream",
		Work: func(_ context.Context, task *Task) ([]byte, error) {
			if task.Run.ID == run.ID {
				t.Error("worked on a cancelled run")
			}
			return nil, nil
		},
	})
	next, _ := await(t, s, submit(t, s, Spec{}).ID) // whatever came before in the queue has been looked at
	wantState(t, next, Succeeded)
}

func TestCancelReachesTheWork(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	started := make(chan struct{})
	noticed := make(chan time.Time, 1)
	stop := serve(t, newService(t, b, fast), Worker{
		Kind: "dream",
		Work: func(ctx context.Context, _ *Task) ([]byte, error) {
			close(started)
			<-ctx.Done()
			noticed <- time.Now()
			if !errors.Is(context.Cause(ctx), ErrEnded) {
				t.Errorf("cause: %v", context.Cause(ctx))
			}
			return []byte("too late"), nil
		},
	})
	run := submit(t, s, Spec{})
	<-started
	asked := time.Now()
	if _, err := s.Cancel(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case at := <-noticed:
		if took := at.Sub(asked); took > time.Second {
			t.Errorf("the work was cancelled after %s", took)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the work was not cancelled")
	}
	wantEmptyQueue(t, s)
	stop()
	got, events := await(t, s, run.ID)
	wantState(t, got, Cancelled)
	if got.Shards[0].Done || states(events) != "PENDING RUNNING CANCELLED" {
		t.Errorf("%+v, events %s", got.Shards[0], states(events))
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
	cfg := Config{Backoff: time.Second, MaxBackoff: 10 * time.Second}
	for _, c := range []struct {
		attempt int
		err     error
		least   time.Duration
	}{
		{1, errFlaky, time.Second}, {2, errFlaky, 2 * time.Second}, {4, errFlaky, 8 * time.Second}, {5, errFlaky, 10 * time.Second},
		{500, errFlaky, 10 * time.Second}, {1, Retry(time.Minute, errFlaky), time.Minute}, {9, Retry(-1, errFlaky), 0},
	} {
		if got := cfg.delay(c.attempt, c.err); got < c.least || got > c.least*3/2 {
			t.Errorf("attempt %d, %v: %s, want %s to 1.5 times that", c.attempt, c.err, got, c.least)
		}
	}
	if err := Drop(Retry(0, errFlaky)); !errors.Is(err, errFlaky) || !isDrop(err) {
		t.Errorf("%v", err)
	}
}
