package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// echo is a network of one number per row: what it computes depends on the row
// alone.
func echo(sample, states float32, t float64) float32 { return 3*sample - states + float32(t)/7 }

func echoRun(pieces []piece) {
	for _, p := range pieces {
		for i := p.from; i < p.to; i++ {
			p.out[i] = echo(p.sample[i], p.states[i], p.t)
		}
	}
}

func rowsOf(pieces []piece) (n int) {
	for _, p := range pieces {
		n += p.to - p.from
	}
	return n
}

// Renderings of different sizes, at different steps, all get their own rows
// back, and no batch is larger than allowed or mixes steps that it must not.
func TestBatcherGivesEveryRowItsOwn(t *testing.T) {
	for _, cfg := range []batcherConfig{
		{lanes: 1, rows: 4, mixed: true}, {lanes: 1, rows: 16}, {lanes: 2, rows: 5, mixed: true}, {lanes: 3, rows: 8},
		{lanes: 2, rows: 16, mixed: true, fit: func(n int) int { return min(n, 1<<(n/4)) }},
	} {
		var mu sync.Mutex
		shared, worst := 0, 0
		cfg.wait = 50 * time.Millisecond
		cfg.run = func(_ context.Context, _ int, pieces []piece) error {
			mu.Lock()
			worst = max(worst, rowsOf(pieces))
			if len(pieces) > 1 {
				shared++
			}
			if !cfg.mixed && slices.ContainsFunc(pieces, func(p piece) bool { return p.t != pieces[0].t }) {
				t.Error("a batch of several timesteps")
			}
			mu.Unlock()
			echoRun(pieces)
			return nil
		}
		b := newBatcher(cfg)
		var all sync.WaitGroup
		b.count(12)
		for r := range 12 {
			all.Go(func() {
				defer b.leave()
				rng := rand.New(rand.NewPCG(1, uint64(r)))
				rows := 1 + r%7
				for step := range 20 {
					sample, states, out := make([]float32, rows), make([]float32, rows), make([]float32, rows)
					for i := range sample {
						sample[i], states[i] = rng.Float32(), rng.Float32()
					}
					at := float64(step % (2 + r%3))
					if err := b.predict(t.Context(), at, rows, sample, states, out); err != nil {
						t.Error(err)
						return
					}
					for i := range out {
						if out[i] != echo(sample[i], states[i], at) {
							t.Errorf("rendering %d, step %d, row %d: another's output", r, step, i)
						}
					}
				}
			})
		}
		all.Wait()
		b.close()
		if worst > cfg.rows || shared == 0 {
			t.Errorf("%+v: batches of up to %d rows, %d of them shared", cfg, worst, shared)
		}
	}
}

// held is a batcher whose batches wait to be let through, and say what is in
// them.
func held(t *testing.T, cfg batcherConfig) (b *batcher, batches chan []piece, let chan error) {
	batches, let = make(chan []piece), make(chan error)
	cfg.run = func(ctx context.Context, _ int, pieces []piece) error {
		batches <- pieces
		select {
		case err := <-let:
			echoRun(pieces)
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b = newBatcher(cfg)
	t.Cleanup(b.close)
	return b, batches, let
}

// ask predicts rows of ones in a goroutine.
func ask(ctx context.Context, b *batcher, at float64, rows int) (out []float32, result chan error) {
	ones := slices.Repeat([]float32{1}, rows)
	out, result = make([]float32, rows), make(chan error, 1)
	go func() { result <- b.predict(ctx, at, rows, ones, ones, out) }()
	return out, result
}

// waits until so many calls wait in the batcher.
func (b *batcher) waits(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) != n {
		b.changed.Wait()
	}
}

// A single picture that comes while a set is worked on is in the next batch.
func TestBatcherIsFair(t *testing.T) {
	b, batches, let := held(t, batcherConfig{lanes: 1, rows: 8, mixed: true})
	_, set := ask(t.Context(), b, 1, 40)
	first := <-batches
	_, one := ask(t.Context(), b, 2, 2)
	b.waits(2)
	let <- nil
	second := <-batches
	if rowsOf(first) != 8 || len(second) != 2 || rowsOf(second) != 8 || second[1].rows != 2 || second[1].to != 2 {
		t.Errorf("the first batch has %d rows, the second %d of %d calls", rowsOf(first), rowsOf(second), len(second))
	}
	let <- nil
	if err := <-one; err != nil {
		t.Error(err)
	}
	for rest := 40 - 8 - 6; rest > 0; rest -= 8 {
		<-batches
		let <- nil
	}
	if err := <-set; err != nil {
		t.Error(err)
	}
}

// One of two requests of a batch is cancelled: it returns while the batch still
// runs, and the other gets its result. When both are, the run is terminated.
func TestBatcherCancelsOneOfABatch(t *testing.T) {
	b, batches, let := held(t, batcherConfig{lanes: 1, rows: 8, mixed: true})
	_, block := ask(t.Context(), b, 0, 1)
	<-batches
	ctx, cancel := context.WithCancel(t.Context())
	_, gone := ask(ctx, b, 1, 2)
	out, stays := ask(t.Context(), b, 1, 2)
	b.waits(2)
	let <- nil
	if err := <-block; err != nil {
		t.Fatal(err)
	}
	if pieces := <-batches; len(pieces) != 2 {
		t.Fatalf("%d calls in the batch", len(pieces))
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled call got %v", err)
	}
	let <- nil
	if err := <-stays; err != nil || out[1] != echo(1, 1, 1) {
		t.Errorf("the other call got %v, %v", out, err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	_, gone = ask(ctx, b, 1, 20) // more than one batch: the rest is given up
	<-batches
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled call got %v", err)
	}
	_, after := ask(t.Context(), b, 1, 1)
	if pieces := <-batches; rowsOf(pieces) != 1 {
		t.Errorf("%d rows after a cancelled call, want 1", rowsOf(pieces))
	}
	let <- nil
	if err := <-after; err != nil {
		t.Error(err)
	}
}

// A failed batch fails its calls, and the lane goes on.
func TestBatcherPassesErrors(t *testing.T) {
	b, batches, let := held(t, batcherConfig{lanes: 1, rows: 4, mixed: true})
	_, bad := ask(t.Context(), b, 0, 9)
	<-batches
	let <- fmt.Errorf("out of memory")
	if err := <-bad; err == nil || err.Error() != "out of memory" {
		t.Errorf("got %v", err)
	}
	_, good := ask(t.Context(), b, 0, 1)
	<-batches
	let <- nil
	if err := <-good; err != nil {
		t.Error(err)
	}
}

// While another rendering may still join, a batch waits, but not for long; and
// not at all for one that has left.
func TestBatcherWaitsForOthers(t *testing.T) {
	b, batches, let := held(t, batcherConfig{lanes: 1, rows: 8, mixed: true, wait: time.Minute})
	b.enter()
	b.enter()
	_, one := ask(t.Context(), b, 0, 2)
	b.waits(1)
	_, two := ask(t.Context(), b, 3, 2)
	if pieces := <-batches; len(pieces) != 2 {
		t.Fatalf("a batch of %d calls, want both", len(pieces))
	}
	let <- nil
	<-one
	<-two
	_, one = ask(t.Context(), b, 0, 2)
	b.waits(1)
	b.leave() // the other has its picture
	<-batches
	let <- nil
	if err := <-one; err != nil {
		t.Error(err)
	}
	b.leave()

	b, batches, let = held(t, batcherConfig{lanes: 1, rows: 8, mixed: true, wait: time.Millisecond})
	b.enter()
	b.enter()
	_, one = ask(t.Context(), b, 0, 2)
	if pieces := <-batches; len(pieces) != 1 { // after a millisecond, alone
		t.Errorf("a batch of %d calls", len(pieces))
	}
	let <- nil
	<-one
}

// Two lanes divide what waits, also when the first call comes alone.
func TestBatcherDividesOverLanes(t *testing.T) {
	b, batches, let := held(t, batcherConfig{lanes: 2, rows: 32, mixed: true, wait: time.Minute})
	for range 8 {
		b.enter()
	}
	var results []chan error
	for range 8 {
		_, r := ask(t.Context(), b, 0, 2)
		results = append(results, r)
	}
	for range 2 {
		if n := rowsOf(<-batches); n != 8 {
			t.Errorf("a lane takes %d of 16 rows", n)
		}
	}
	let <- nil
	let <- nil
	for _, r := range results {
		if err := <-r; err != nil {
			t.Error(err)
		}
	}
}

// Closing ends what waits, and calls after it.
func TestBatcherCloses(t *testing.T) {
	b, batches, let := held(t, batcherConfig{lanes: 1, rows: 2, mixed: true})
	_, running := ask(t.Context(), b, 0, 2)
	<-batches
	_, waiting := ask(t.Context(), b, 0, 2)
	b.waits(1)
	go b.close()
	if err := <-waiting; !errors.Is(err, errBatcherClosed) {
		t.Errorf("the waiting call got %v", err)
	}
	let <- nil
	if err := <-running; err != nil {
		t.Errorf("the running call got %v", err)
	}
	b.close()
	if err := b.predict(t.Context(), 0, 1, []float32{1}, []float32{1}, make([]float32, 1)); !errors.Is(err, errBatcherClosed) {
		t.Errorf("a call after closing got %v", err)
	}
}

// countShared counts the runs of more than one call.
func countShared(run func(context.Context, int, []piece) error, mu *sync.Mutex, shared *int) func(context.Context, int, []piece) error {
	return func(ctx context.Context, lane int, pieces []piece) error {
		if len(pieces) > 1 {
			mu.Lock()
			*shared++
			mu.Unlock()
		}
		return run(ctx, lane, pieces)
	}
}
