package runs

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// A process that ends before its work has returned gives the shard back without counting the attempt; another has it at
// once, and what the first one still makes is not committed.
func TestSurrender(t *testing.T) {
	cfg := fast
	cfg.AckWait = time.Minute // nothing comes back by itself
	b := openBus(t, t.TempDir())
	log, logs := observed()
	dying, err := New(t.Context(), cfg, Deps{JS: b.JetStream(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	begun, late := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- dying.Serve(ctx, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) {
			close(begun)
			<-late // native code that does not return
			return []byte("too late"), nil
		}})
	}()
	id := submit(t, dying, Spec{}).ID
	<-begun
	cancel()
	if given := dying.Surrender(t.Context()); given != 1 {
		t.Fatalf("%d shards are given back, want 1", given)
	}
	if again := dying.Surrender(t.Context()); again != 0 {
		t.Errorf("%d shards are given back twice", again)
	}

	next := newService(t, b, cfg)
	var attempt atomic.Int32
	serve(t, next, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		attempt.Store(int32(task.Attempt))
		close(late)
		if err := <-ended; err != nil { // the first one has tried to commit, and all has returned
			t.Errorf("Serve of the process that ends: %v", err)
		}
		return []byte("in time"), nil
	}})
	run, _ := await(t, next, id)
	wantState(t, run, Succeeded)
	if shard := run.Shards[0]; attempt.Load() != 1 || shard.Attempt != 1 || string(shard.Result) != "in time" {
		t.Errorf("attempt %d, shard %+v; a surrender counts none", attempt.Load(), shard)
	}
	var outcomes []string
	for _, line := range logs.FilterMessage("attempt").All() {
		outcomes = append(outcomes, line.ContextMap()["outcome"].(string))
	}
	if len(outcomes) != 2 || outcomes[0] != "surrendered" || outcomes[1] != "fenced" {
		t.Errorf("the first process's attempt came to %q, want surrendered and then fenced", outcomes)
	}
	wantEmptyQueue(t, next)
}

// What an attempt has committed is not given back, though its lease is not over yet.
func TestSurrenderLeavesWhatIsCommitted(t *testing.T) {
	b := openBus(t, t.TempDir())
	var s *Service
	given := -1
	s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Point: func(name string) {
		if name == "shard.committed" {
			given = s.Surrender(context.Background())
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return []byte("done"), nil }})
	run, _ := await(t, s, submit(t, s, Spec{}).ID)
	wantState(t, run, Succeeded)
	stop()
	if given != 0 || string(run.Shards[0].Result) != "done" {
		t.Errorf("%d shards are given back, shard %+v", given, run.Shards[0])
	}
}
