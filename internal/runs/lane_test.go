package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// workOff serves one shard at a time until n are done and returns them in the order in which they were taken, as
// "target.shard".
func workOff(t *testing.T, s *Service, n int) []string {
	t.Helper()
	taken := make(chan string, n)
	stop := serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		taken <- fmt.Sprintf("%s.%d", task.Run.Target, task.Shard)
		return nil, nil
	}})
	defer stop()
	var order []string
	for deadline := time.After(15 * time.Second); len(order) < n; {
		select {
		case name := <-taken:
			order = append(order, name)
		case <-deadline:
			t.Fatalf("only %v of %d after a while", order, n)
		}
	}
	wantEmptyQueue(t, s)
	return order
}

func TestClassesAreServedInOrder(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	for _, class := range []Priority{Low, Normal, High, Low, High} {
		submit(t, s, Spec{Target: classNames[class], Options: Options{Priority: class}})
	}
	got := strings.Join(workOff(t, s, 5), " ")
	if want := "high.0 high.0 normal.0 low.0 low.0"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

func TestOwnersTakeTurns(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	submit(t, s, Spec{Owner: "ann", Target: "a", Shards: 6})
	submit(t, s, Spec{Owner: "bob", Target: "b", Shards: 2})
	submit(t, s, Spec{Target: "c", Shards: 1}) // without an owner
	got := strings.Join(workOff(t, s, 9), " ")
	if want := "a.0 b.0 c.0 a.1 b.1 a.2 a.3 a.4 a.5"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

// TestLowRunAges puts the shards of a low run far into the past, by a clock that goes ahead.
func TestLowRunAges(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	submit(t, s, Spec{Target: "low", Options: Options{Priority: Low}})
	submit(t, s, Spec{Target: "high", Options: Options{Priority: High}})
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	b := newBoard(q)
	if err := b.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.skew += 2*ageStep + time.Minute
	c, err := b.take(t.Context())
	if err != nil || c == nil {
		t.Fatalf("%v, %v", c, err)
	}
	if !strings.Contains(c.Subject(), ".low.") {
		t.Errorf("after %s %s is taken first", 2*ageStep, c.Subject())
	}
}

// TestWake has workers that never look by themselves: a wake-up alone brings them new runs, in a lane that they know or
// not, and shards that were given back.
func TestWake(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.Poll, cfg.ReconcileEvery = time.Hour, time.Hour
	b := openBus(t, t.TempDir())
	s := newService(t, b, cfg)
	var once sync.Once
	serve(t, newService(t, b, cfg), Worker{Kind: "dream", Concurrency: 2, Work: func(_ context.Context, task *Task) (_ []byte, err error) {
		once.Do(func() { err = errFlaky })
		return nil, err
	}})
	for i, owner := range []string{"ann", "ann", "bob", ""} {
		run, _ := await(t, s, submit(t, s, Spec{Owner: owner, Shards: 1 + i}).ID)
		wantState(t, run, Succeeded)
	}
	run, _ := await(t, s, submit(t, s, Spec{Owner: "ann", Options: Options{Priority: High}}).ID)
	wantState(t, run, Succeeded)
}

// TestDeadWorkersShardIsFound takes a shard and never returns it, in a lane without new ones: a worker looks there by
// itself when the lease has run out.
func TestDeadWorkersShardIsFound(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.AckWait = 500 * time.Millisecond
	s := mesh(t, cfg)
	run := submit(t, s, Spec{})
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := newBoard(q).take(t.Context()); err != nil || c == nil {
		t.Fatalf("%v, %v", c, err)
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	done, _ := await(t, s, run.ID)
	wantState(t, done, Succeeded)
}

func laneNames(t *testing.T, q *queue) []string {
	t.Helper()
	list, err := q.lanes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range list {
		names = append(names, l.name())
	}
	slices.Sort(names)
	return names
}

// TestEmptyLanesAreRemoved keeps lanes that hold something, however long nobody came, and makes removed ones again.
func TestEmptyLanesAreRemoved(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.LaneIdle = time.Millisecond
	s := mesh(t, cfg)
	done := submit(t, s, Spec{Target: "done"})
	workOff(t, s, 1)
	await(t, s, done.ID)
	waits := submit(t, s, Spec{Owner: "ann", Target: "waits"})
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond) // LaneIdle is over
	if err := q.tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := laneNames(t, q); len(got) != 1 || got[0] != waits.lane().name() {
		t.Errorf("lanes %v, want only %s", got, waits.lane().name())
	}
	again := submit(t, s, Spec{Target: "again"})
	workOff(t, s, 2)
	for _, run := range []Run{waits, again} {
		run, _ = await(t, s, run.ID)
		wantState(t, run, Succeeded)
	}
}

// TestLaneLostWithMessages is the publisher that dies before it makes the lane, and the remover that dies after it has
// removed one.
func TestLaneLostWithMessages(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{Owner: "ann", Shards: 2})
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	if err := q.stream.DeleteConsumer(t.Context(), run.lane().name()); err != nil {
		t.Fatal(err)
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	s.Start()
	done, _ := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	list, err := q.lanes(t.Context())
	if err != nil || len(list) != 1 || list[0].Config.Metadata[ownerMeta] != "ann" {
		t.Errorf("lanes %+v, %v", list, err)
	}
}

// TestQueueFullOverLanes holds the bound over all lanes of a kind.
func TestQueueFullOverLanes(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.MaxPending = 3
	s := mesh(t, cfg)
	submit(t, s, Spec{Owner: "ann", Shards: 2})
	submit(t, s, Spec{Owner: "bob", Options: Options{Priority: High}})
	if _, _, err := s.Submit(t.Context(), Spec{Kind: "dream", Owner: "eve"}); !errors.Is(err, ErrQueueFull) {
		t.Errorf("a fourth shard of three: %v", err)
	}
}

// oldQueue makes a queue of the layout before there were lanes, with the messages of a run.
func oldQueue(t *testing.T, s *Service, js jetstream.JetStream) (Run, jetstream.Consumer) {
	t.Helper()
	run := s.newRun(Spec{Kind: "dream", Shards: 2}, newID(time.Now().Add(-time.Minute)), "", nil)
	if err := s.create(t.Context(), &run); err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "dreamood-queue-dream", Subjects: []string{"dreamood.shard.dream.*.*"}, Retention: jetstream.WorkQueuePolicy,
		Discard: jetstream.DiscardNew, MaxMsgs: 10, MaxMsgsPerSubject: 1, DiscardNewPerSubject: true, Duplicates: dedupWindow,
	})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
		Durable: "workers", FilterSubject: "dreamood.shard.dream.*.*", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1, MaxAckPending: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	for shard := range 2 {
		data := fmt.Appendf(nil, `{"run":%q,"shard":%d}`, run.ID, shard)
		if _, err := js.Publish(t.Context(), fmt.Sprintf("dreamood.shard.dream.%s.%d", run.ID, shard), data); err != nil {
			t.Fatal(err)
		}
	}
	return run, consumer
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	run, _ := oldQueue(t, s, b.JetStream())
	s.now = func() time.Time { return time.Now().Add(time.Minute) } // the run is not fresh any more
	if _, err := s.queue(t.Context(), "dream"); err != nil {
		t.Fatal(err)
	}
	if err := s.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	workOff(t, s, 2)
	done, _ := await(t, s, run.ID)
	wantState(t, done, Succeeded)
}

func TestUpgradeWhileOldWorkersPull(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	_, consumer := oldQueue(t, s, b.JetStream())
	for range 2 {
		if _, err := consumer.Next(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	pull, err := consumer.Fetch(1, jetstream.FetchContext(ctx)) // as an idle worker does
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if info, err := consumer.Info(t.Context()); err == nil && info.NumWaiting > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the pull does not arrive")
		}
	}
	_, err = s.queue(t.Context(), "dream")
	if err == nil || !strings.Contains(err.Error(), "stop all processes of the older version") {
		t.Errorf("upgraded under a worker: %v", err)
	}
	cancel()
	for range pull.Messages() {
	}
}
