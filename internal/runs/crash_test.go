package runs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
)

func TestShutdownGivesBack(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	first, second := newService(t, b, fast), newService(t, b, fast)
	started := make(chan struct{})
	stop := serve(t, first, Worker{Kind: "dream", Work: func(ctx context.Context, task *Task) ([]byte, error) {
		task.Report(3, 10, "three")
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	run := submit(t, first, Spec{})
	<-started
	stop()
	given, err := first.Get(t.Context(), run.ID)
	if err != nil || given.State != Running || given.Shards[0].Attempt != 0 || given.Shards[0].Claim != "" || given.Progress.Done != 3 {
		t.Errorf("given back: %+v, %v", given, err)
	}
	begun := time.Now()
	serve(t, second, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		if task.Attempt != 1 {
			t.Errorf("attempt %d, want 1: a shutdown is not an attempt", task.Attempt)
		}
		return []byte("second"), nil
	}})
	done, _ := await(t, second, run.ID)
	wantState(t, done, Succeeded)
	if took := time.Since(begun); took > fast.AckWait/2 {
		t.Errorf("the other worker got the shard after %s: it was not given back, its lease ran out", took)
	}
}

func TestShutdownInFinish(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	started := make(chan struct{})
	work := func(context.Context, *Task) ([]byte, error) { return []byte("part"), nil }
	stop := serve(t, s, Worker{Kind: "dream", Work: work, Finish: func(ctx context.Context, _ Run) (string, error) {
		close(started)
		<-ctx.Done()
		return "", ctx.Err()
	}})
	run := submit(t, s, Spec{Shards: 2})
	<-started
	stop()
	serve(t, s, Worker{
		Kind:   "dream",
		Work:   func(context.Context, *Task) ([]byte, error) { t.Error("worked again"); return nil, nil },
		Finish: func(context.Context, Run) (string, error) { return "sets/whole", nil },
	})
	done, _ := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	if done.Result != "sets/whole" || done.Final.Attempt != 1 {
		t.Errorf("%q, %+v", done.Result, done.Final)
	}
	wantEmptyQueue(t, s)
}

func TestServerRestartKeepsPending(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBus(t, dir)
	run := submit(t, newService(t, b, fast), Spec{Shards: 2, Payload: []byte(`{"seed":7}`)})
	b.Close()

	s := newService(t, openBus(t, dir), fast)
	serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) { return task.Run.Payload, nil }})
	done, events := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	if string(done.Shards[1].Result) != `{"seed":7}` || states(events) != "PENDING RUNNING SUCCEEDED" {
		t.Errorf("%+v, events %s", done, states(events))
	}
}

// TestZombie lets a worker hang until its lease runs out, and wakes it when another one has done its shard.
func TestZombie(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	cfg := fast
	cfg.AckWait, cfg.Heartbeat = 600*time.Millisecond, 100*time.Millisecond
	hung, sound := newService(t, b, cfg), newService(t, b, cfg)
	hung.cfg.Heartbeat = time.Hour // it does not show that it lives
	started, wake, fenced := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	stop := serve(t, hung, Worker{Kind: "dream", Work: func(ctx context.Context, _ *Task) ([]byte, error) {
		close(started)
		<-wake
		fenced <- context.Cause(ctx)
		return []byte("zombie"), nil
	}})
	run := submit(t, sound, Spec{})
	<-started
	release := make(chan struct{})
	var again atomic.Int32
	serve(t, sound, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		again.Add(1)
		if task.Attempt != 2 {
			t.Errorf("attempt %d, want 2: a lost lease is an attempt", task.Attempt)
		}
		close(wake) // now both believe that they work on it
		<-release
		return []byte("sound"), nil
	}})
	select {
	case cause := <-fenced:
		if !errors.Is(cause, ErrFenced) {
			t.Logf("the zombie did not know yet (%v): the compare-and-set alone holds it off", cause)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the lease did not run out")
	}
	stop() // the zombie has tried to commit
	if now, err := sound.Get(t.Context(), run.ID); err != nil || now.State != Running || now.Shards[0].Done {
		t.Errorf("after the zombie: %+v, %v", now, err)
	}
	close(release)
	done, _ := await(t, sound, run.ID)
	wantState(t, done, Succeeded)
	if string(done.Shards[0].Result) != "sound" || again.Load() != 1 {
		t.Errorf("result %q, worked on %d times more", done.Shards[0].Result, again.Load())
	}
	wantEmptyQueue(t, sound)
}

// TestFence shows that the document alone refuses a worker without the claim, whatever it knows.
func TestFence(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	d := &delivery{s: s, w: &Worker{Kind: run.Kind}, span: noop.Span{}, id: run.ID, log: s.log}
	old, ok := d.claim(t.Context(), 0)
	if !ok {
		t.Fatal("not claimed")
	}
	if _, ok := d.claim(t.Context(), 0); !ok {
		t.Fatal("not claimed again")
	}
	_, err := old.change(t.Context(), func(*Run, *ShardState) error { t.Error("let through"); return nil })
	if !errors.Is(err, ErrFenced) {
		t.Errorf("change by the old claim: %v", err)
	}
	if _, err := s.Cancel(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	_, err = old.change(t.Context(), func(*Run, *ShardState) error { t.Error("let through"); return nil })
	if !errors.Is(err, ErrEnded) {
		t.Errorf("change of a cancelled run: %v", err)
	}
}

// TestDeadProcesses claims a shard as often as it may be and never comes back, as processes do that a shard kills.
func TestDeadProcesses(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	d := &delivery{s: s, w: &Worker{Kind: run.Kind}, span: noop.Span{}, id: run.ID, log: s.log}
	for range 3 {
		if _, ok := d.claim(t.Context(), 0); !ok {
			t.Fatal("not claimed")
		}
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { t.Error("a fourth attempt"); return nil, nil }})
	done, _ := await(t, s, run.ID)
	wantState(t, done, Failed)
	wantEmptyQueue(t, s)
}

// TestReconcile loses the messages at each step and has them put back.
func TestReconcile(t *testing.T) {
	t.Parallel()
	steps := map[string]func(t *testing.T, s *Service, run Run){
		"before the first delivery": func(*testing.T, *Service, Run) {},
		"with one shard done": func(t *testing.T, s *Service, run Run) {
			commit(t, s, run, 1)
		},
		"with all shards done, before the finish": func(t *testing.T, s *Service, run Run) {
			commit(t, s, run, 1)
			commit(t, s, run, 0)
		},
	}
	for name, prepare := range steps {
		t.Run(name, func(t *testing.T) {
			b := openBus(t, t.TempDir())
			s := newService(t, b, fast)
			run := submit(t, s, Spec{Shards: 2})
			prepare(t, s, run)
			q, err := s.queue(t.Context(), "dream")
			if err != nil {
				t.Fatal(err)
			}
			if err := q.purge(t.Context(), &run, nil); err != nil {
				t.Fatal(err)
			}
			s.now = func() time.Time { return s.serverTime().Add(time.Minute) } // the run is not fresh any more
			s.Start()
			serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) { return []byte("late"), nil }})
			done, _ := await(t, s, run.ID)
			wantState(t, done, Succeeded)
			wantEmptyQueue(t, s)
		})
	}
}

// commit commits a shard as a worker does that dies before it acknowledges.
func commit(t *testing.T, s *Service, run Run, shard int) {
	t.Helper()
	d := &delivery{s: s, w: &Worker{Kind: run.Kind}, span: noop.Span{}, id: run.ID, shard: shard, log: s.log}
	a, ok := d.claim(t.Context(), shard)
	if !ok {
		t.Fatal("not claimed")
	}
	_, err := a.change(t.Context(), func(run *Run, u *ShardState) error {
		u.Done = true
		if run.sum(); run.allDone() {
			run.Finisher = shard
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReconcilersDoNotMultiply lets several of them loose on runs whose messages are all there.
func TestReconcilersDoNotMultiply(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	for range 3 {
		submit(t, s, Spec{Shards: 2})
	}
	s.now = func() time.Time { return time.Now().Add(time.Minute) }
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := s.reconcile(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := q.stream.Info(t.Context()); err != nil || info.State.Msgs != 6 {
		t.Errorf("%+v messages, %v; want 6", info, err)
	}
}

func TestOrphanMessage(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	never := Run{ID: newID(time.Now())}
	if err := q.publish(t.Context(), &never, 0, "0"); err != nil {
		t.Fatal(err)
	}
	if err := q.publish(t.Context(), &never, 0, "1"); !errors.Is(err, errQueued) {
		t.Errorf("a second message of one shard: %v", err)
	}
	if err := q.makeLane(t.Context(), never.lane(), ""); err != nil {
		t.Fatal(err)
	}
	msg, err := newBoard(q).take(t.Context())
	if err != nil || msg == nil {
		t.Fatalf("%v, %v", msg, err)
	}
	s.deliver(t.Context(), &Worker{Kind: "dream"}, msg) // given back: the bucket may lag behind
	if info, err := q.stream.Info(t.Context()); err != nil || info.State.Msgs != 1 {
		t.Errorf("dropped at once: %+v, %v", info, err)
	}
}
