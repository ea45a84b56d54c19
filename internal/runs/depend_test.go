package runs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
)

// twice plans a run of two shards, whatever it asks for, and says so.
func twice(called *atomic.Int32) Planner {
	return func(_ context.Context, payload []byte, run string) (Plan, error) {
		called.Add(1)
		if len(payload) == 0 {
			payload = []byte("null")
		}
		return Plan{Payload: fmt.Appendf(nil, `{"from":%s,"planned":%t}`, payload, run != ""), Shards: 2, Unit: "pictures", Total: 8}, nil
	}
}

func after(runs ...Run) Options {
	var o Options
	for _, run := range runs {
		o.After = append(o.After, run.ID)
	}
	return o
}

func TestPlanAtSubmit(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	var called atomic.Int32
	spec := Spec{Kind: "dream", RequestID: "r", Payload: []byte(`{"a":1}`), Target: "sets/x", Plan: twice(&called)}
	run := submit(t, s, spec)
	if string(run.Payload) != `{"from":{"a":1},"planned":false}` || run.ShardCount != 2 || run.Target != "sets/x" || run.Progress != (Progress{Unit: "pictures", Total: 8}) {
		t.Errorf("planned: %+v", run)
	}
	again, created, err := s.Submit(t.Context(), spec)
	if err != nil || created || again.ID != run.ID || called.Load() != 1 {
		t.Errorf("again: %s, %v, planned %d times", again.ID, err, called.Load())
	}
	spec.RequestID, spec.Plan = "q", func(context.Context, []byte, string) (Plan, error) { return Plan{Shards: 1000, Total: -1}, nil }
	if _, _, err := s.Submit(t.Context(), spec); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "1000 shards") || !strings.Contains(err.Error(), "total -1") {
		t.Errorf("a plan that is none: %v", err)
	}
	spec.Plan = func(context.Context, []byte, string) (Plan, error) { return Plan{}, fault.Invalid("a", "no") }
	if _, _, err := s.Submit(t.Context(), spec); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("refused as %v", err)
	}
	spec.Plan = twice(&called)
	submit(t, s, spec) // the refusals left the request id free
}

// TestAfter lets a run wait for two others. Nothing of it is in the queue until both have succeeded; then it is planned.
func TestAfter(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	one, two := submit(t, s, Spec{Kind: "first"}), submit(t, s, Spec{Kind: "first"})
	var called atomic.Int32
	spec := Spec{Kind: "dream", RequestID: "r", Payload: []byte(`{"a":1}`), Options: after(one, two), Plan: twice(&called)}
	run := submit(t, s, spec)
	if run.State != Pending || len(run.WaitingFor) != 2 || run.ShardCount != 0 || called.Load() != 0 {
		t.Fatalf("submitted: %+v", run)
	}
	wantNoMessages(t, s, run)
	s.now = func() time.Time { return time.Now().Add(time.Minute) }
	if err := s.reconcile(t.Context()); err != nil {
		t.Error(err)
	}
	wantNoMessages(t, s, run)
	if again, created, err := s.Submit(t.Context(), spec); err != nil || created || again.ID != run.ID {
		t.Errorf("submitted again: %s, %v, %v", again.ID, created, err)
	}
	serve(t, s, Worker{Kind: "dream", Plan: twice(&called), Work: func(_ context.Context, task *Task) ([]byte, error) {
		return fmt.Appendf(nil, "%s %d", task.Run.Payload, task.Shard), nil
	}})
	hold := make(chan struct{})
	serve(t, s, Worker{Kind: "first", Work: func(_ context.Context, task *Task) ([]byte, error) {
		if task.Run.ID == two.ID {
			<-hold
		}
		return nil, nil
	}})
	await(t, s, one.ID)
	enough := errors.New("enough")
	err := s.Watch(t.Context(), run.ID, 0, func(e Event) error {
		if len(e.Run.WaitingFor) == 1 && e.Run.WaitingFor[0] == two.ID {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	wantNoMessages(t, s, run)
	close(hold)
	done, events := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	if called.Load() != 1 || done.ShardCount != 2 || string(done.Shards[1].Result) != `{"from":{"a":1},"planned":true} 1` || done.Progress.Total != 8 {
		t.Errorf("planned %d times: %+v", called.Load(), done)
	}
	if got := states(events); got != "PENDING RUNNING SUCCEEDED" {
		t.Errorf("events: %s", got)
	}
	wantEmptyQueue(t, s)
	late := submit(t, s, Spec{Options: after(one, two), Plan: twice(&called)}) // nothing to wait for
	if late.ShardCount != 2 || len(late.WaitingFor) != 0 {
		t.Errorf("after what has succeeded: %+v", late)
	}
}

// TestAfterFailure ends what a chain of runs waits for in each bad way.
func TestAfterFailure(t *testing.T) {
	t.Parallel()
	ends := map[string]struct {
		end  func(t *testing.T, s *Service, run Run)
		want string
	}{
		"cancelled": {func(t *testing.T, s *Service, run Run) {
			if _, err := s.Cancel(t.Context(), run.ID); err != nil {
				t.Fatal(err)
			}
		}, "which is CANCELLED"},
		"failed": {func(t *testing.T, s *Service, run Run) {
			serve(t, s, Worker{Kind: "first", Work: func(context.Context, *Task) ([]byte, error) { return nil, Drop(errFlaky) }})
		}, "which is FAILED: shard 0, attempt 1: the GPU sneezed"},
		"deleted, by somebody who died before telling": {func(t *testing.T, s *Service, run Run) {
			if err := s.docs.Purge(t.Context(), runKey(run.ID)); err != nil {
				t.Fatal(err)
			}
			s.now = func() time.Time { return time.Now().Add(time.Minute) }
			if err := s.reconcile(t.Context()); err != nil {
				t.Error(err)
			}
		}, "which was deleted"},
	}
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			s := mesh(t, fast)
			first := submit(t, s, Spec{Kind: "first"})
			second := submit(t, s, Spec{Options: after(first)})
			third := submit(t, s, Spec{Options: after(second)})
			c.end(t, s, first)
			done, _ := await(t, s, second.ID)
			wantState(t, done, Failed)
			if done.Failure.Reason != "FAILED_PRECONDITION" || !strings.Contains(done.Failure.Message, "runs/"+first.ID+", "+c.want) {
				t.Errorf("failure: %+v", done.Failure)
			}
			last, _ := await(t, s, third.ID)
			wantState(t, last, Failed)
			if !strings.Contains(last.Failure.Message, "runs/"+second.ID) || !strings.Contains(last.Failure.Message, c.want) {
				t.Errorf("failure of the third: %+v", last.Failure)
			}
			if _, _, err := s.Submit(t.Context(), Spec{Kind: "dream", Options: after(second)}); !errors.Is(err, ErrState) {
				t.Errorf("submitted after a failed run: %v", err)
			}
		})
	}
}

// TestAfterRetry retries a chain: the retry of the second waits for the retry of the first.
func TestAfterRetry(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	var called atomic.Int32
	first := submit(t, s, Spec{Kind: "first"})
	second := submit(t, s, Spec{Options: after(first), Plan: twice(&called)})
	if _, err := s.Cancel(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	await(t, s, second.ID)
	if _, err := s.Retry(t.Context(), second.ID); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "retry that one first") {
		t.Errorf("retry after a cancelled run: %v", err)
	}
	again, err := s.Retry(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	run, err := s.Retry(t.Context(), second.ID)
	if err != nil || len(run.WaitingFor) != 1 || run.WaitingFor[0] != again.ID || !run.Unplanned || run.Options.After[0] != again.ID {
		t.Fatalf("%+v, %v", run, err)
	}
	work := func(context.Context, *Task) ([]byte, error) { return nil, nil }
	serve(t, s, Worker{Kind: "first", Work: work})
	serve(t, s, Worker{Kind: "dream", Plan: twice(&called), Work: work})
	done, _ := await(t, s, run.ID)
	wantState(t, done, Succeeded)
}

// TestAfterPaused pauses a run that waits: what it waits for may succeed meanwhile, and still nothing is queued.
func TestAfterPaused(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	first := submit(t, s, Spec{Kind: "first"})
	run := submit(t, s, Spec{Shards: 2, Options: after(first)})
	if _, err := s.Pause(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	work := func(context.Context, *Task) ([]byte, error) { return nil, nil }
	serve(t, s, Worker{Kind: "first", Work: work})
	await(t, s, first.ID)
	serve(t, s, Worker{Kind: "dream", Work: work})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if now, err := s.Get(t.Context(), run.ID); err != nil || now.State != Paused {
			t.Fatalf("%+v, %v", now, err)
		} else if len(now.WaitingFor) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not released")
		}
	}
	wantNoMessages(t, s, run)
	if _, err := s.Resume(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	done, _ := await(t, s, run.ID)
	wantState(t, done, Succeeded)
}

// TestPlanningFails has the planning of a released run fail once and for all, and once more.
func TestPlanningFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want State
	}{
		"for good": {fault.New(fault.AlreadyExists, "sets/x is there"), Failed}, "once": {errFlaky, Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			b := openBus(t, t.TempDir())
			s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Reason: func(err error) string { return string(fault.ReasonOf(err)) }})
			if err != nil {
				t.Fatal(err)
			}
			var called atomic.Int32
			first := submit(t, s, Spec{Kind: "first"})
			run := submit(t, s, Spec{Options: after(first), Plan: twice(&called)})
			work := func(context.Context, *Task) ([]byte, error) { return nil, nil }
			serve(t, s, Worker{Kind: "first", Work: work})
			serve(t, s, Worker{Kind: "dream", Work: work, Plan: func(ctx context.Context, payload []byte, id string) (Plan, error) {
				if called.Add(1) == 1 {
					return Plan{}, c.err
				}
				return twice(&called)(ctx, payload, id)
			}})
			done, _ := await(t, s, run.ID)
			wantState(t, done, c.want)
			if c.want == Failed && done.Failure.Reason != "ALREADY_EXISTS" {
				t.Errorf("failure: %+v", done.Failure)
			}
			wantEmptyQueue(t, s)
		})
	}
}

// TestReleaseIsRepaired lets whoever ends the first run die before it tells, and who plans the second before it queues.
func TestReleaseIsRepaired(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	var called atomic.Int32
	first := submit(t, s, Spec{Kind: "first"})
	run := submit(t, s, Spec{Options: after(first), Plan: twice(&called)})
	ended, err := s.load(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	ended.end(Succeeded, s.now())
	if err := s.write(t.Context(), &ended); err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Now().Add(time.Minute) }
	if err := s.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	planned, err := s.change(t.Context(), run.ID, func(run *Run) error { return s.apply(run, Plan{Shards: 3}) })
	if err != nil || len(planned.WaitingFor) != 0 {
		t.Fatalf("%+v, %v", planned, err)
	}
	serve(t, s, Worker{Kind: "dream", Plan: twice(&called), Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	done, _ := await(t, s, run.ID) // by the plan message, which is still there
	wantState(t, done, Succeeded)
	if done.ShardCount != 3 || called.Load() != 0 {
		t.Errorf("planned again: %+v", done)
	}
	wantEmptyQueue(t, s)
}
