package runs

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/dreamood/dreamood/internal/fault"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// wantLetter waits for the dead letter of a run, which is written just after its last event.
func wantLetter(t *testing.T, s *Service, run Run) DeadLetter {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list, _, err := s.DeadLetters(t.Context(), Filter{}, run.ID, 0, "")
		if err != nil || len(list) > 1 {
			t.Fatalf("%d letters, %v", len(list), err)
		}
		if len(list) == 1 {
			return list[0]
		}
		if time.Now().After(deadline) {
			t.Fatal("no dead letter")
		}
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	server := Server{Runs: s}
	var healed atomic.Bool
	serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		switch {
		case healed.Load():
			return nil, nil
		case task.Run.Owner == "ann":
			panic("poison")
		}
		return nil, Drop(errFlaky)
	}})
	poison, _ := await(t, s, submit(t, s, Spec{Owner: "ann"}).ID)
	first := wantLetter(t, s, poison)
	if first.Shard != 0 || first.Attempts != 3 || first.Owner != "ann" || !strings.Contains(first.Failure.Message, "panic: poison") ||
		!strings.Contains(first.Stack, "TestDeadLetters") || first.Worker != s.cfg.Process {
		t.Errorf("poison: %+v", first)
	}
	dropped, _ := await(t, s, submit(t, s, Spec{}).ID)
	if letter := wantLetter(t, s, dropped); letter.Attempts != 1 || letter.Stack != "" {
		t.Errorf("dropped: %+v", letter)
	}
	page, err := server.ListDeadLetters(t.Context(), &runv1.ListDeadLettersRequest{PageSize: 1})
	if err != nil || len(page.DeadLetters) != 1 || page.DeadLetters[0].Run != "runs/"+dropped.ID || page.NextPageToken == "" {
		t.Fatalf("newest: %v, %v", page, err)
	}
	page, err = server.ListDeadLetters(t.Context(), &runv1.ListDeadLettersRequest{PageSize: 1, PageToken: page.NextPageToken})
	if err != nil || len(page.DeadLetters) != 1 || page.DeadLetters[0].Run != "runs/"+poison.ID || page.NextPageToken != "" {
		t.Fatalf("next: %v, %v", page, err)
	}
	name := page.DeadLetters[0].Name
	healed.Store(true)
	again, err := server.RedriveDeadLetter(t.Context(), &runv1.RedriveDeadLetterRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	done, _ := await(t, s, strings.TrimPrefix(again.Run.Name, "runs/"))
	wantState(t, done, Succeeded)
	twice, err := server.RedriveDeadLetter(t.Context(), &runv1.RedriveDeadLetterRequest{Name: name})
	if err != nil || twice.Run.Name != again.Run.Name {
		t.Errorf("redriven twice: %v, %v", twice, err)
	}
	got, err := server.GetDeadLetter(t.Context(), &runv1.GetDeadLetterRequest{Name: name})
	if err != nil || got.DeadLetter.RedrivenBy != again.Run.Name {
		t.Errorf("%v, %v", got, err)
	}
	if err := s.Delete(t.Context(), poison.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeadLetter(t.Context(), first.Sequence); !errors.Is(err, ErrNotFound) {
		t.Errorf("letter of a deleted run: %v", err)
	}
}

// TestDeadLetterOnce lets processes die of a shard, and the one that notices die before and after it writes the letter.
func TestDeadLetterOnce(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	d := &delivery{s: s, w: &Worker{Kind: run.Kind}, span: noop.Span{}, id: run.ID, log: s.log}
	for range 3 {
		if _, ok := d.claim(t.Context(), 0); !ok {
			t.Fatal("not claimed")
		}
	}
	failed, err := s.change(t.Context(), run.ID, func(run *Run) error {
		run.Failure, run.Dead = &Failure{Reason: "INTERNAL", Message: "it never came back"}, &dead{Unit: 0}
		run.end(Failed, s.now())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { t.Error("a fourth attempt"); return nil, nil }})
	wantEmptyQueue(t, s) // the message that was left writes the letter
	if letter := wantLetter(t, s, run); letter.Attempts != 3 || letter.Failure.Message != "it never came back" {
		t.Errorf("%+v", letter)
	}
	for range 2 {
		if err := s.bury(t.Context(), failed); err != nil {
			t.Errorf("written again: %v", err)
		}
	}
	wantLetter(t, s, run)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]Options{
		"deadline": {Deadline: time.Now().Add(1500 * time.Millisecond)}, "time limit": {TimeLimit: 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := mesh(t, fast)
			cause := make(chan error, 1)
			serve(t, s, Worker{Kind: "dream", Work: func(ctx context.Context, _ *Task) ([]byte, error) {
				<-ctx.Done()
				cause <- context.Cause(ctx)
				return nil, ctx.Err()
			}})
			done, _ := await(t, s, submit(t, s, Spec{Options: options}).ID)
			wantState(t, done, Failed)
			if done.Failure.Reason != string(fault.DeadlineExceeded) || !strings.Contains(done.Failure.Message, name) {
				t.Errorf("failure: %+v", done.Failure)
			}
			if err := <-cause; !errors.Is(err, ErrEnded) {
				t.Errorf("the work ended with %v", err)
			}
			wantEmptyQueue(t, s)
			if list, _, err := s.DeadLetters(t.Context(), Filter{}, "", 0, ""); err != nil || len(list) != 0 {
				t.Errorf("a dead letter of a run out of time: %v, %v", list, err)
			}
		})
	}
}

func TestLimitsOfWaitingRuns(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	if _, _, err := s.Submit(t.Context(), Spec{Kind: "dream", Options: Options{Deadline: time.Now().Add(-time.Second)}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a deadline in the past: %v", err)
	}
	run := submit(t, s, Spec{Options: Options{Deadline: time.Now().Add(time.Minute)}})
	if _, err := s.Pause(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	if err := s.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	done, _ := await(t, s, run.ID)
	wantState(t, done, Failed)
	again, err := s.Retry(t.Context(), run.ID)
	if err != nil || !again.Options.Deadline.IsZero() {
		t.Errorf("the retry: %+v, %v", again.Options, err)
	}
}

// TestLimitWithoutPauses counts the time of a run: a pause is not in it.
func TestLimitWithoutPauses(t *testing.T) {
	t.Parallel()
	at := time.Now()
	run := Run{State: Running, Started: at, Options: Options{TimeLimit: time.Hour}}
	run.State, run.PausedAt = Paused, at.Add(50*time.Minute)
	if run.expire(at.Add(5 * time.Hour)) {
		t.Error("expired while paused")
	}
	run.resume(at.Add(5 * time.Hour))
	if end, _ := run.limit(); !end.Equal(at.Add(5*time.Hour + 10*time.Minute)) {
		t.Errorf("the limit is %s after the start, want 5h10m", end.Sub(at))
	}
}

// TestStall has work hang: its lease is not extended any more, its context ends, and the next attempt gets the shard.
func TestStall(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.AckWait, cfg.Heartbeat = 2*time.Second, 50*time.Millisecond
	s := mesh(t, cfg)
	serve(t, s, Worker{Kind: "dream", Stall: 200 * time.Millisecond, Work: func(ctx context.Context, task *Task) ([]byte, error) {
		if task.Attempt == 1 {
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), ErrStalled) {
				t.Errorf("cause: %v", context.Cause(ctx))
			}
			return nil, ctx.Err()
		}
		for range 10 { // slow, but it gets on
			time.Sleep(50 * time.Millisecond)
			task.Touch()
		}
		return nil, nil
	}})
	done, events := await(t, s, submit(t, s, Spec{}).ID)
	wantState(t, done, Succeeded)
	told := false
	for _, e := range events {
		told = told || strings.Contains(e.Run.Progress.Message, "no progress for")
	}
	if done.Shards[0].Attempt != 2 || !told {
		t.Errorf("%d attempts, told %v", done.Shards[0].Attempt, told)
	}
}

// TestAwayCostsNothing has another service away for longer than attempts would last.
func TestAwayCostsNothing(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	var calls atomic.Int32
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) {
		if calls.Add(1) <= 6 {
			return nil, fault.New(fault.Unavailable, "the sampler is away")
		}
		return nil, nil
	}})
	done, _ := await(t, s, submit(t, s, Spec{}).ID)
	wantState(t, done, Succeeded)
	if done.Shards[0].Attempt != 1 {
		t.Errorf("%d attempts were counted, want 1", done.Shards[0].Attempt)
	}
	cfg := fast
	cfg.AwayFor = time.Millisecond
	s = mesh(t, cfg)
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) {
		time.Sleep(2 * time.Millisecond)
		return nil, fault.New(fault.Unavailable, "the sampler is away")
	}})
	done, _ = await(t, s, submit(t, s, Spec{}).ID)
	wantState(t, done, Failed)
}

// TestOldRunsGo lets the record of a run grow old.
func TestOldRunsGo(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.KeepRuns = time.Hour
	s := mesh(t, cfg)
	spec := Spec{Kind: "dream", RequestID: "r"}
	old, waits := submit(t, s, spec), submit(t, s, Spec{Kind: "other"})
	if _, err := s.Cancel(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	pass := func(later time.Duration) {
		s.now = func() time.Time { return time.Now().Add(later) }
		if err := s.reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass(50 * time.Minute)
	if _, err := s.Get(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	pass(2 * time.Hour)
	if _, err := s.Get(t.Context(), old.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its time: %v", err)
	}
	if last, err := s.lastEvent(t.Context(), old.ID); err != nil || last.Sequence != 0 {
		t.Errorf("its events: %+v, %v", last, err)
	}
	if _, err := s.Get(t.Context(), waits.ID); err != nil {
		t.Errorf("an unfinished run: %v", err)
	}
	submit(t, s, spec) // its request id is free
}

// TestFinishThatTouchesDoesNotStall has a Finish that takes several times as long as work may be quiet.
func TestFinishThatTouchesDoesNotStall(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.AckWait, cfg.Heartbeat = 2*time.Second, 50*time.Millisecond
	s := mesh(t, cfg)
	calls := 0
	serve(t, s, Worker{Kind: "dream", Stall: 400 * time.Millisecond, Work: func(context.Context, *Task) ([]byte, error) { return nil, nil },
		Finish: func(ctx context.Context, _ Run) (string, error) {
			calls++
			for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(20 * time.Millisecond) {
				Touch(ctx)
				if ctx.Err() != nil {
					return "", context.Cause(ctx)
				}
			}
			return "made", nil
		}})
	done, _ := await(t, s, submit(t, s, Spec{}).ID)
	wantState(t, done, Succeeded)
	if done.Result != "made" || calls != 1 {
		t.Errorf("%q after %d calls", done.Result, calls)
	}
}
