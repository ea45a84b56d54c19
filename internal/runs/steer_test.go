package runs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// wantNoMessages looks once whether the queue holds a message of a run.
func wantNoMessages(t *testing.T, s *Service, run Run) {
	t.Helper()
	q, err := s.queue(t.Context(), run.Kind)
	if err != nil {
		t.Fatal(err)
	}
	if queued, err := q.queued(t.Context(), &run); err != nil || len(queued) != 0 {
		t.Errorf("messages of a run that is %s: %v, %v", run.State, queued, err)
	}
}

func TestPauseWaiting(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{Shards: 3})
	paused, err := s.Pause(t.Context(), run.ID)
	if err != nil || paused.State != Paused || paused.Sequence <= run.Sequence || paused.PausedAt.IsZero() {
		t.Fatalf("%+v, %v", paused, err)
	}
	wantNoMessages(t, s, paused)
	again, err := s.Pause(t.Context(), run.ID)
	if err != nil || again.Sequence != paused.Sequence || again.Pauses != 1 {
		t.Errorf("paused again: %+v, %v", again, err)
	}
	s.now = func() time.Time { return time.Now().Add(time.Minute) }
	if err := s.reconcile(t.Context()); err != nil {
		t.Error(err)
	}
	wantNoMessages(t, s, paused) // the reconciler leaves it alone
	resumed, err := s.Resume(t.Context(), run.ID)
	if err != nil || resumed.State != Pending || resumed.PausedFor < 30*time.Second || !resumed.PausedAt.IsZero() {
		t.Fatalf("%+v, %v", resumed, err)
	}
	if same, err := s.Resume(t.Context(), run.ID); err != nil || same.Sequence != resumed.Sequence {
		t.Errorf("resumed again: %+v, %v", same, err)
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	done, events := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	if got := states(events); got != "PENDING PAUSED PENDING RUNNING SUCCEEDED" {
		t.Errorf("events: %s", got)
	}
	wantEmptyQueue(t, s)
	for name, steer := range map[string]func(context.Context, string) (Run, error){"pause": s.Pause, "resume": s.Resume} {
		if _, err := steer(t.Context(), run.ID); !errors.Is(err, ErrState) {
			t.Errorf("%s of an ended run: %v", name, err)
		}
	}
}

// TestPauseUnderWay pauses two shards that are worked on: one keeps what it has and gives back, the other completes.
func TestPauseUnderWay(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	var begun atomic.Int32
	both := make(chan struct{})
	paused := make(chan time.Time, 2)
	h := &heard{attempts: map[string]int{}, stages: map[string]int{}, states: map[string]int{}, count: map[string]int64{}}
	worker, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Observer: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Close)
	serve(t, worker, Worker{Kind: "dream", Concurrency: 2, Work: func(ctx context.Context, task *Task) ([]byte, error) {
		if task.Run.Pauses > 0 {
			if task.Shard != 0 || task.Attempt != 1 || task.Run.Shards[0].Units != 7 {
				t.Errorf("after the pause: shard %d, attempt %d, %+v", task.Shard, task.Attempt, task.Run.Shards[0])
			}
			return []byte("resumed"), nil
		}
		if begun.Add(1) == 2 {
			close(both)
		}
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), ErrPaused) {
			t.Errorf("cause: %v", context.Cause(ctx))
		}
		paused <- time.Now()
		if task.Shard == 1 {
			return []byte("just done"), nil
		}
		task.Report(7, 10, "")
		return nil, ctx.Err()
	}})
	run := submit(t, s, Spec{Shards: 2})
	<-both
	asked := time.Now()
	if _, err := s.Pause(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case at := <-paused:
			if took := at.Sub(asked); took > time.Second {
				t.Errorf("the work was paused after %s", took)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the work was not paused")
		}
	}
	settled := func() (Run, bool) {
		now, err := s.Get(t.Context(), run.ID)
		return now, err == nil && now.ShardsDone == 1 && now.Shards[0].Claim == ""
	}
	now, ok := settled()
	for deadline := time.Now().Add(5 * time.Second); !ok && time.Now().Before(deadline); now, ok = settled() {
		time.Sleep(10 * time.Millisecond)
	}
	if !ok || now.State != Paused || now.Attempts != 1 || now.Shards[0].Attempt != 0 {
		t.Errorf("paused: %+v", now)
	}
	wantNoMessages(t, s, now)
	h.Lock()
	if want := map[string]int{"dream paused": 1, "dream done": 1}; !maps.Equal(h.attempts, want) {
		t.Errorf("heard of attempts %v, want %v", h.attempts, want)
	}
	h.Unlock()
	if _, err := s.Resume(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	done, events := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	if string(done.Shards[0].Result)+", "+string(done.Shards[1].Result) != "resumed, just done" || done.Attempts != 2 { // of the shards, not of the finish
		t.Errorf("%q, %q after %d attempts", done.Shards[0].Result, done.Shards[1].Result, done.Attempts)
	}
	if got := states(events); got != "PENDING RUNNING PAUSED RUNNING SUCCEEDED" {
		t.Errorf("events: %s", got)
	}
	wantEmptyQueue(t, s)
}

// TestPauseUnnoticed resumes a run before its worker, which is slow to look, learns of the pause. The attempt that the
// pause cut off counts nothing.
func TestPauseUnnoticed(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	d := &delivery{s: s, w: &Worker{Kind: run.Kind}, span: noop.Span{}, id: run.ID, log: s.log}
	old, ok := d.claim(t.Context(), 0)
	if !ok {
		t.Fatal("not claimed")
	}
	if _, err := s.Pause(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resume(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		if task.Attempt != 1 {
			t.Errorf("attempt %d, want 1", task.Attempt)
		}
		return nil, nil
	}})
	done, _ := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	if _, err := old.change(t.Context(), func(*Run, *ShardState) error { t.Error("let through"); return nil }); !errors.Is(err, ErrEnded) {
		t.Errorf("the old worker: %v", err)
	}
	wantEmptyQueue(t, s)
}

func TestRetry(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	var healed atomic.Bool
	worked := make(chan int, 10)
	serve(t, s, Worker{
		Kind: "dream",
		Work: func(_ context.Context, task *Task) ([]byte, error) {
			worked <- task.Shard
			if task.Shard == 1 && !healed.Load() {
				for task.Run.ShardsDone == 0 { // the other first
					time.Sleep(5 * time.Millisecond)
					task.Run, _ = s.load(context.WithoutCancel(t.Context()), task.Run.ID)
				}
				return nil, Drop(errFlaky)
			}
			return []byte(task.Run.ID), nil
		},
		Concurrency: 2,
		Finish:      func(_ context.Context, run Run) (string, error) { return "sets/" + string(run.Shards[0].Result), nil },
	})
	run := submit(t, s, Spec{Shards: 2, Target: "sets/x", RequestID: "r", Payload: []byte(`{"a":1}`), Options: Options{Labels: map[string]string{"team": "a"}}})
	failed, _ := await(t, s, run.ID)
	wantState(t, failed, Failed)
	<-worked
	<-worked
	healed.Store(true)
	again, err := s.Retry(t.Context(), run.ID)
	if err != nil || again.ID == run.ID || again.RetryOf != run.ID || again.Origin != run.ID || again.ShardsDone != 1 || again.RequestID != "r" {
		t.Fatalf("%+v, %v", again, err)
	}
	done, _ := await(t, s, again.ID)
	wantState(t, done, Succeeded)
	if done.Result != "sets/"+run.ID { // the first shard is the old run's
		t.Errorf("result %q", done.Result)
	}
	if shard := <-worked; shard != 1 || len(worked) != 0 {
		t.Errorf("the retry worked on shard %d and %d more, want 1 alone", shard, len(worked))
	}
	twice, err := s.Retry(t.Context(), run.ID)
	if err != nil || twice.ID != again.ID {
		t.Errorf("retried twice: %s, %v; want %s", twice.ID, err, again.ID)
	}
	old, err := s.Get(t.Context(), run.ID)
	if err != nil || old.State != Failed || old.RetriedBy != again.ID || old.Ended != failed.Ended {
		t.Errorf("the old run: %+v, %v", old, err)
	}
	if _, err := s.Retry(t.Context(), done.ID); !errors.Is(err, ErrState) {
		t.Errorf("retry of a success: %v", err)
	}
	list, _, err := s.List(t.Context(), Filter{Labels: map[string]string{"team": ""}, Target: "sets/x"}, 0, "")
	if err != nil || len(list) != 2 || list[0].ID != again.ID {
		t.Errorf("listed: %v, %v", list, err)
	}
	for _, none := range []Filter{{Labels: map[string]string{"team": "b"}}, {Labels: map[string]string{"x": ""}}, {Target: "sets/y"}} {
		if list, _, err := s.List(t.Context(), none, 0, ""); err != nil || len(list) != 0 {
			t.Errorf("%+v lists %v, %v", none, list, err)
		}
	}
}

// TestRetryDiesBetween reserves the new run and dies; the next Retry makes it.
func TestRetryDiesBetween(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{Shards: 2})
	if _, err := s.Retry(t.Context(), run.ID); !errors.Is(err, ErrState) {
		t.Errorf("retry of a run that waits: %v", err)
	}
	if _, err := s.Cancel(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	next := newID(time.Now())
	if _, err := s.change(t.Context(), run.ID, func(run *Run) error { run.RetriedBy = next; return nil }); err != nil {
		t.Fatal(err)
	}
	again, err := s.Retry(t.Context(), run.ID)
	if err != nil || again.ID != next || again.State != Pending || again.Sequence == 0 {
		t.Fatalf("%+v, %v", again, err)
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	done, _ := await(t, s, next)
	wantState(t, done, Succeeded)
}

func TestDelete(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	var forgotten []string
	s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Forget: func(_ context.Context, run Run) error {
		forgotten = append(forgotten, run.Origin)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Kind: "dream", RequestID: "r", Shards: 2}
	run := submit(t, s, spec)
	if err := s.Delete(t.Context(), run.ID); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "cancel it first") {
		t.Errorf("delete of a run that waits: %v", err)
	}
	if _, err := s.Cancel(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	again, err := s.Retry(t.Context(), run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	if len(forgotten) != 0 {
		t.Errorf("what the retry needs was forgotten: %v", forgotten)
	}
	if _, err := s.Get(t.Context(), run.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if last, err := s.lastEvent(t.Context(), run.ID); err != nil || last.Sequence != 0 {
		t.Errorf("events of a deleted run: %+v, %v", last, err)
	}
	wantNoMessages(t, s, run)
	if err := s.Delete(t.Context(), run.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted again: %v", err)
	}
	if fresh := submit(t, s, spec); fresh.ID == run.ID {
		t.Error("the request id of a deleted run is not free")
	}
	if _, err := s.Cancel(t.Context(), again.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), again.ID); err != nil || !slices.Equal(forgotten, []string{run.ID}) {
		t.Errorf("%v, forgotten: %v, want %s", err, forgotten, run.ID)
	}
}

func TestServerSteers(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	server := Server{Runs: s}
	run := submit(t, s, Spec{Owner: "ann", Target: "sets/demo"})
	name := ood.Runs.Name(run.ID)
	paused, err := server.PauseRun(t.Context(), &runv1.PauseRunRequest{Name: name})
	if err != nil || paused.Run.State != runv1.RunState_RUN_STATE_PAUSED {
		t.Fatalf("%v, %v", paused, err)
	}
	if err := s.FreeTarget(t.Context(), "dream", "sets/demo", ""); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("the target of a paused run is free: %v", err)
	}
	list, err := server.ListRuns(t.Context(), &runv1.ListRunsRequest{State: runv1.RunState_RUN_STATE_PAUSED, Owner: "ann", Target: "sets/demo"})
	if err != nil || len(list.Runs) != 1 || list.Runs[0].Name != name {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := server.ResumeRun(t.Context(), &runv1.ResumeRunRequest{Name: name}); err != nil {
		t.Error(err)
	}
	if _, err := server.RetryRun(t.Context(), &runv1.RetryRunRequest{Name: name}); err == nil {
		t.Error("a waiting run was retried")
	}
	if _, err := server.CancelRun(t.Context(), &runv1.CancelRunRequest{Name: name}); err != nil {
		t.Error(err)
	}
	again, err := server.RetryRun(t.Context(), &runv1.RetryRunRequest{Name: name})
	if err != nil || again.Run.RetryOf != name {
		t.Fatalf("%v, %v", again, err)
	}
	old, err := server.GetRun(t.Context(), &runv1.GetRunRequest{Name: name})
	if err != nil || old.Run.RetriedBy != again.Run.Name {
		t.Errorf("%v, %v", old, err)
	}
	if _, err := server.DeleteRun(t.Context(), &runv1.DeleteRunRequest{Name: name}); err != nil {
		t.Error(err)
	}
	if err := s.FreeTarget(t.Context(), "dream", "sets/other", ""); err != nil {
		t.Error(err)
	}
}
