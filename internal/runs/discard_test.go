package runs

import (
	"context"
	"testing"
	"time"
)

// hurried has ended runs swept soon.
func hurried() Config {
	cfg := fast
	cfg.AckWait = 400 * time.Millisecond
	return cfg
}

// hold takes a shard as a worker does, and does not come back.
func hold(t *testing.T, b *board) *catch {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		c, err := b.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c != nil { // on a busy machine a message may be there only for the next look
			return c
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no shard to hold")
	return nil
}

// boardOf is a board of the queue of a service.
func boardOf(t *testing.T, s *Service) *board {
	t.Helper()
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	return newBoard(q)
}

// TestCancelEmptiesTheQueue cancels a run for which there is no worker: what nobody holds leaves the queue with the call,
// what a worker held that died, a while later; the messages of others stay.
func TestCancelEmptiesTheQueue(t *testing.T) {
	t.Parallel()
	s := mesh(t, hurried())
	other := submit(t, s, Spec{Kind: "dream", Target: "other", Options: Options{Priority: Low}})
	run := submit(t, s, Spec{Shards: 5})
	hold(t, boardOf(t, s))
	d := &delivery{s: s, w: &Worker{Kind: run.Kind}, id: run.ID, shard: 0, log: s.log}
	if _, ok := d.claim(t.Context(), 0); !ok {
		t.Fatal("not claimed")
	}
	run, err := s.Cancel(t.Context(), run.ID)
	if err != nil || run.State != Cancelled {
		t.Fatalf("%+v, %v", run, err)
	}
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	left, err := q.queued(t.Context(), &run)
	if _, kept := left[q.subjectOf(&run, "0")]; err != nil || len(left) != 1 || !kept {
		t.Errorf("after the call the queue has %v of the run, %v; want what is held", left, err)
	}
	s.Start()
	awaitNoMessages(t, q, run)
	if left, err := q.queued(t.Context(), &other); err != nil || len(left) != 1 {
		t.Errorf("of another run the queue has %v, %v", left, err)
	}
}

// TestSweepWritesTheDeadLetter has a process die between the end of a run and the letter of its dead shard, and no worker
// come: the reconciler writes the letter before it removes the message.
func TestSweepWritesTheDeadLetter(t *testing.T) {
	t.Parallel()
	cfg := hurried()
	cfg.MaxAttempts = 1
	s := mesh(t, cfg)
	run := submit(t, s, Spec{Shards: 2})
	c := hold(t, boardOf(t, s))
	d := &delivery{s: s, w: &Worker{Kind: run.Kind}, msg: c.Msg, id: run.ID, shard: 0, log: s.log}
	if _, ok := d.claim(t.Context(), 0); !ok {
		t.Fatal("not claimed")
	}
	run, err := s.change(t.Context(), run.ID, func(run *Run) error {
		run.Failure, run.Dead = &Failure{Reason: "INTERNAL", Message: "died"}, &dead{Unit: 0}
		run.end(Failed, s.now())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	awaitNoMessages(t, q, run)
	if letter := wantLetter(t, s, run); letter.Shard != 0 || letter.Failure.Message != "died" {
		t.Errorf("%+v", letter)
	}
}

func awaitNoMessages(t *testing.T, q *queue, run Run) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left, err := q.queued(t.Context(), &run)
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("the queue still has %v, %v", left, err)
		}
	}
}

// TestWorkersAreCalledEarly: the workers are called after the first of many shards is published, a few times, for all.
func TestWorkersAreCalledEarly(t *testing.T) {
	t.Parallel()
	const shards = 100
	b := openBus(t, t.TempDir())
	heard := newService(t, b, fast)
	q, err := heard.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	board := newBoard(q)
	if err := q.makeLane(t.Context(), lane{class: Normal, key: noOwner}, ""); err != nil {
		t.Fatal(err)
	}
	if err := board.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop, err := board.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	published := 0
	first := board.called()
	s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Point: func(name string) {
		if name != "submit.published" {
			return
		}
		if published++; published == 2 {
			select {
			case <-first:
			case <-time.After(10 * time.Second):
				t.Error("no call after the first shard")
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	submit(t, s, Spec{Shards: shards})
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		board.mu.Lock()
		var waiting int64
		calls := 0
		for _, seat := range board.seats {
			waiting, calls = seat.waiting, seat.calls
		}
		board.mu.Unlock()
		if waiting == shards && calls <= 9 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("called %d times, for %d of %d shards", calls, waiting, shards)
		}
	}
	taken := make(chan int, shards)
	serve(t, s, Worker{Kind: "dream", Concurrency: 4, Work: func(_ context.Context, task *Task) ([]byte, error) {
		taken <- task.Shard
		return nil, nil
	}})
	for range shards {
		select {
		case <-taken:
		case <-time.After(10 * time.Second):
			t.Fatal("not all shards are taken")
		}
	}
}
