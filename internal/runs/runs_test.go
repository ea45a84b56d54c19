package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dreamood/dreamood/internal/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fast is a Config for tests: the same machine, only quicker.
var fast = Config{
	AckWait: 5 * time.Second, Heartbeat: 200 * time.Millisecond, Backoff: 20 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
	Poll: 100 * time.Millisecond, ReportEvery: 20 * time.Millisecond, ReconcileEvery: 100 * time.Millisecond, CommitWait: 2 * time.Second,
}

func openBus(t *testing.T, dir string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Dir: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func newService(t *testing.T, b *bus.Bus, cfg Config) *Service {
	t.Helper()
	s, err := New(t.Context(), cfg, Deps{JS: b.JetStream()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// mesh is one service on a server of its own.
func mesh(t *testing.T, cfg Config) *Service {
	t.Helper()
	return newService(t, openBus(t, t.TempDir()), cfg)
}

// serve runs a worker until the returned stop, or the end of the test.
func serve(t *testing.T, s *Service, w Worker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := s.Serve(ctx, w); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); group.Wait() }
	t.Cleanup(stop)
	return stop
}

func submit(t *testing.T, s *Service, spec Spec) Run {
	t.Helper()
	if spec.Kind == "" {
		spec.Kind = "dream"
	}
	run, created, err := s.Submit(t.Context(), spec)
	if err != nil || !created {
		t.Fatalf("submit: created %v, %v", created, err)
	}
	return run
}

// await follows a run to its end and returns it with the events on the way.
func await(t *testing.T, s *Service, id string) (Run, []Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var events []Event
	if err := s.Watch(ctx, id, 0, func(e Event) error { events = append(events, e); return nil }); err != nil {
		run, _ := s.Get(t.Context(), id)
		t.Fatalf("watch: %v; the run: %+v", err, run)
	}
	run, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return run, events
}

func wantState(t *testing.T, run Run, want State) {
	t.Helper()
	if run.State != want {
		t.Fatalf("run is %s (%+v), want %s", run.State, run.Failure, want)
	}
}

func states(events []Event) string {
	var list []string
	for _, e := range events {
		if state := string(e.Run.State); len(list) == 0 || list[len(list)-1] != state {
			list = append(list, state)
		}
	}
	return strings.Join(list, " ")
}

func TestSubmitTwice(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	spec := Spec{Kind: "dream", Owner: "ann", RequestID: "r1", Payload: []byte(`{"class": "cat",  "n": 2}`), Target: "sets/demo", Unit: "pictures", Total: 2}
	first := submit(t, s, spec)
	if first.State != Pending || first.Target != "sets/demo" || first.Progress != (Progress{Total: 2, Unit: "pictures"}) || first.Sequence == 0 {
		t.Errorf("submitted: %+v", first)
	}
	spec.Payload = []byte(`{"class":"cat","n":2}`) // only the white space differs
	again, created, err := s.Submit(t.Context(), spec)
	if err != nil || created || again.ID != first.ID || again.Sequence != first.Sequence {
		t.Errorf("the same request: %s (%d), created %v, %v; want %s (%d)", again.ID, again.Sequence, created, err, first.ID, first.Sequence)
	}
	spec.Payload = []byte(`{"class":"dog"}`)
	if _, _, err := s.Submit(t.Context(), spec); !errors.Is(err, ErrRequestMismatch) || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("another payload: %v", err)
	}
	spec.Owner = "bob"
	if other := submit(t, s, spec); other.ID == first.ID {
		t.Error("request ids of two owners made one run")
	}
	spec.RequestID = ""
	if one, two := submit(t, s, spec), submit(t, s, spec); one.ID == two.ID {
		t.Error("two submissions without a request id made one run")
	}
}

func TestSubmitTogether(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	var created, ids = atomic.Int32{}, sync.Map{}
	var group sync.WaitGroup
	for range 4 {
		s := newService(t, b, fast)
		group.Go(func() {
			run, made, err := s.Submit(t.Context(), Spec{Kind: "dream", RequestID: "same", Shards: 3})
			if err != nil {
				t.Error(err)
			}
			if made {
				created.Add(1)
			}
			ids.Store(run.ID, true)
		})
	}
	group.Wait()
	count := 0
	ids.Range(func(any, any) bool { count++; return true })
	if count != 1 || created.Load() != 1 {
		t.Errorf("%d runs, %d created; want one", count, created.Load())
	}
}

func TestSubmitInvalid(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	_, _, err := s.Submit(t.Context(), Spec{Kind: "a.b", Shards: 513, Total: -1, Payload: []byte("{"), Owner: strings.Repeat("x", 300)})
	if !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	for _, want := range []string{`kind "a.b"`, "513 shards", "total -1", "payload", "owner"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in:\n%v", want, err)
		}
	}
	if _, err := s.Get(t.Context(), "../x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of no id: %v", err)
	}
	if _, err := s.Cancel(t.Context(), newID(time.Now())); !errors.Is(err, ErrNotFound) {
		t.Errorf("cancel of nothing: %v", err)
	}
	if err := s.Watch(t.Context(), newID(time.Now()), 0, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("watch of nothing: %v", err)
	}
}

func TestTwoShardsOnTwoWorkers(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	both := make(chan struct{})
	var met, finished atomic.Int32
	for range 2 {
		serve(t, newService(t, b, fast), Worker{
			Kind: "dream",
			Work: func(ctx context.Context, task *Task) ([]byte, error) {
				if met.Add(1) == 2 {
					close(both)
				}
				<-both // passes only when two shards are worked on at the same time
				task.Report(5, 5, fmt.Sprintf("shard %d", task.Shard))
				return fmt.Appendf(nil, "part %d", task.Shard), nil
			},
			Finish: func(_ context.Context, run Run) (string, error) {
				finished.Add(1)
				return string(run.Shards[0].Result) + ", " + string(run.Shards[1].Result), nil
			},
		})
	}
	run, events := await(t, newService(t, b, fast), submit(t, newService(t, b, fast), Spec{Shards: 2, Unit: "pictures", Payload: []byte(`{"a":1}`)}).ID)
	wantState(t, run, Succeeded)
	if run.Result != "part 0, part 1" || finished.Load() != 1 || run.Progress.Done != 10 || run.Progress.Total != 10 {
		t.Errorf("result %q after %d finishes, progress %+v", run.Result, finished.Load(), run.Progress)
	}
	if run.Started.IsZero() || run.Ended.Before(run.Started) || run.ShardsDone != 2 {
		t.Errorf("times or shards: %+v", run)
	}
	if got := states(events); got != "PENDING RUNNING SUCCEEDED" {
		t.Errorf("events: %s", got)
	}
	last := events[len(events)-1].Run
	if last.Result != run.Result || string(last.Payload) != `{"a":1}` || last.ShardsDone != 2 {
		t.Errorf("last event: %+v", last)
	}
	wantEmptyQueue(t, newService(t, b, fast))
}

// wantEmptyQueue waits for the acknowledgement that follows the terminal event.
func wantEmptyQueue(t *testing.T, s *Service) {
	t.Helper()
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		info, err := q.stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are left in the queue", info.State.Msgs)
		}
	}
}

func TestProgressIsSummed(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	serve(t, s, Worker{Kind: "dream", Concurrency: 2, Work: func(ctx context.Context, task *Task) ([]byte, error) {
		for i := range 10 {
			task.Report(int64(i+1), 10, "drawing")
			time.Sleep(10 * time.Millisecond)
		}
		return nil, nil
	}})
	run, events := await(t, s, submit(t, s, Spec{Shards: 2, Target: "sets/x", Unit: "pictures"}).ID)
	wantState(t, run, Succeeded)
	if run.Progress != (Progress{Done: 20, Total: 20, Unit: "pictures", Message: "drawing"}) || run.Result != "sets/x" {
		t.Errorf("progress %+v, result %q", run.Progress, run.Result)
	}
	between := 0
	for i, e := range events {
		if i > 0 && e.Sequence <= events[i-1].Sequence {
			t.Errorf("sequence %d after %d", e.Sequence, events[i-1].Sequence)
		}
		if done := e.Run.Progress.Done; done > 0 && done < 20 {
			between++
		}
	}
	if between == 0 {
		t.Errorf("no progress among %d events", len(events))
	}
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.MaxPending = 3
	s := mesh(t, cfg)
	submit(t, s, Spec{Shards: 2})
	spec := Spec{Kind: "dream", RequestID: "later", Shards: 2}
	if _, _, err := s.Submit(t.Context(), spec); !errors.Is(err, ErrQueueFull) {
		t.Fatalf("queue of 3 took 4: %v", err)
	}
	submit(t, s, Spec{Kind: "other", Shards: 3}) // has a queue of its own
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	wantEmptyQueue(t, s)
	run, _ := await(t, s, submit(t, s, spec).ID) // the same request id, later
	wantState(t, run, Succeeded)
}

// TestQueueFullMeanwhile fills the queue between the look and the publishing.
func TestQueueFullMeanwhile(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.MaxPending = 3
	s := mesh(t, cfg)
	submit(t, s, Spec{Shards: 2})
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	run := s.newRun(Spec{Kind: "dream", Shards: 2}, newID(time.Now()), "", nil)
	if err := s.create(t.Context(), &run); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.enqueue(t.Context(), q, run); !errors.Is(err, ErrQueueFull) {
		t.Fatalf("the fourth shard of three: %v", err)
	}
	if _, err := s.Get(t.Context(), run.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("the run was not withdrawn: %v", err)
	}
	if queued, err := q.queued(t.Context(), &run); err != nil || len(queued) != 0 {
		t.Errorf("messages left: %v, %v", queued, err)
	}

	if err := q.stream.Purge(t.Context()); err != nil { // room again, for the same request
		t.Fatal(err)
	}
	if err := s.create(t.Context(), &run); err != nil {
		t.Fatal(err)
	}
	if _, created, err := s.enqueue(t.Context(), q, run); err != nil || !created {
		t.Errorf("submitted again: %v, %v", created, err)
	}
	if queued, err := q.queued(t.Context(), &run); err != nil || len(queued) != 2 {
		t.Errorf("messages of the second submission: %v, %v; want 2", queued, err)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	var want []string
	for i := range 7 {
		run := submit(t, s, Spec{Owner: []string{"ann", "bob"}[i%2]})
		want = append([]string{run.ID}, want...)
		time.Sleep(2 * time.Millisecond) // ids sort by milliseconds
	}
	if _, err := s.Cancel(t.Context(), want[0]); err != nil {
		t.Fatal(err)
	}
	collect := func(filter Filter, size int) (ids []string, pages int) {
		for token := ""; ; {
			page, next, err := s.List(t.Context(), filter, size, token)
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range page {
				ids = append(ids, run.ID)
			}
			pages++
			if token = next; next == "" {
				return ids, pages
			}
		}
	}
	if ids, pages := collect(Filter{}, 3); pages != 3 || strings.Join(ids, " ") != strings.Join(want, " ") {
		t.Errorf("%d pages of %v, want 3 of %v", pages, ids, want)
	}
	if ids, _ := collect(Filter{Owner: "bob"}, 2); len(ids) != 3 || ids[0] != want[1] {
		t.Errorf("bob's: %v", ids)
	}
	if ids, _ := collect(Filter{State: Cancelled}, 0); len(ids) != 1 || ids[0] != want[0] {
		t.Errorf("cancelled: %v", ids)
	}
	if ids, _ := collect(Filter{Kind: "other"}, 0); len(ids) != 0 {
		t.Errorf("of another kind: %v", ids)
	}
	if _, _, err := s.List(t.Context(), Filter{}, 1, "nonsense"); !errors.Is(err, ErrInvalid) {
		t.Errorf("page token: %v", err)
	}
}

func TestConfigProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(t.Context(), Config{Name: "a b", AckWait: time.Second, Heartbeat: 2 * time.Second, MaxAttempts: -1, Kinds: []string{"No"}}, Deps{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`name "a b"`, "heartbeat 2s", "max attempts -1", `kind "No"`, "JetStream"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in:\n%v", want, err)
		}
	}
}

// TestDocumentFits holds the largest run that Submit and Serve allow against the server's message limit.
func TestDocumentFits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x01", 1000) // JSON writes each as \u0001: no real text is longer
	run := Run{ID: newID(time.Now()), Payload: []byte(`"` + strings.Repeat("x", maxPayload-2) + `"`)}
	for range maxShards {
		run.Shards = append(run.Shards, ShardState{Done: true, Attempt: 3, Claim: run.ID, Worker: strings.Repeat("h", 80), Units: 1 << 40,
			Total: 1 << 40, Result: make([]byte, maxResults/maxShards), Error: clip(strings.Repeat("é", 200), 256)})
	}
	run.RequestID, run.Owner, run.Target = long[:maxName], long[:maxName], long[:maxName]
	run.Failure = &Failure{Message: strings.Repeat("é", 2048)}
	data, err := json.Marshal(run)
	if err != nil || len(data) > 1<<20 {
		t.Errorf("%d bytes, %v; want at most 1 MiB", len(data), err)
	}
}

// observed returns a logger and what it was told.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return zap.New(core), logs
}
