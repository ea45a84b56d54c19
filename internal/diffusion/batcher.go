package diffusion

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// errBatcherClosed is what calls get that wait when the model is closed.
var errBatcherClosed = errors.New("the model is closed")

// batcher puts the U-Net calls of all renderings under way together, step by
// step: what waits when a lane is free runs in one batch, of whatever requests,
// prompts, schedulers and steps. The unit is a row, one latent with its text
// embedding: a picture with guidance is two. Rows do not see each other, and
// the bytes of a row are the same in every batch (decision 0024).
//
// Fairness: every waiting call gets an equal part of a batch's rows before any
// gets more, the oldest first, so that a picture is not kept waiting by a set.
// Latency: a batch that is not full waits only while renderings that are under
// way may still join it, and at most wait.
type batcher struct {
	batcherConfig

	mu       sync.Mutex
	changed  *sync.Cond
	waiting  []*call // oldest first
	open     int     // renderings between open and leave
	running  int     // calls with rows in a lane
	closed   bool
	timer    *time.Timer
	finished sync.WaitGroup
}

type batcherConfig struct {
	lanes int           // batches that run at once
	rows  int           // of a batch, at most
	mixed bool          // rows of different timesteps share a batch
	wait  time.Duration // how long a batch waits for more rows
	// fit, if set, says how many of n rows make a good batch, 1 to n; nil is all.
	fit func(n int) int
	// run computes the output of every piece, in lane, 0 to lanes-1. Cancelling
	// ctx ends it early.
	run func(ctx context.Context, lane int, pieces []piece) error
}

// call is a step of a rendering: rows of the U-Net's input and output.
type call struct {
	ctx    context.Context
	t      float64
	rows   int
	sample []float32 // [rows, C, h, w]
	states []float32 // [rows, L, H]
	out    []float32 // [rows, C, h, w]

	since  time.Time
	taken  int // rows that a lane has or had
	done   int // rows that are computed
	lanes  int // lanes that have rows of it
	ended  bool
	result chan error // of one
}

// piece are the rows from up to to of a call.
type piece struct {
	*call
	from, to int
}

func newBatcher(cfg batcherConfig) *batcher {
	b := &batcher{batcherConfig: cfg}
	b.changed = sync.NewCond(&b.mu)
	b.timer = time.AfterFunc(time.Hour, b.wake)
	b.timer.Stop()
	for lane := range b.lanes {
		b.finished.Go(func() { b.work(lane) })
	}
	return b
}

// wake lets the lanes look again.
func (b *batcher) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed.Broadcast()
}

// enter says that a rendering begins, whose calls batches may wait for; leave
// that it has none any more.
func (b *batcher) enter() { b.count(1) }
func (b *batcher) leave() { b.count(-1) }

func (b *batcher) count(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open += n
	b.changed.Broadcast()
}

// predict runs rows at timestep t and returns the outputs, in memory of their
// own. When ctx ends it returns at once: rows that a lane computes together
// with those of others are left to it, and what nobody waits for any more is
// terminated.
func (b *batcher) predict(ctx context.Context, t float64, rows int, sample, states, out []float32) error {
	c := &call{ctx: ctx, t: t, rows: rows, sample: sample, states: states, out: out, since: time.Now(), result: make(chan error, 1)}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return errBatcherClosed
	}
	b.waiting = append(b.waiting, c)
	b.changed.Broadcast()
	b.mu.Unlock()
	select {
	case err := <-c.result:
		return err
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !c.ended {
		b.end(c, ctx.Err())
	}
	return <-c.result
}

// end gives a call its result; the rest of it is not computed. b.mu is held.
func (b *batcher) end(c *call, err error) {
	c.ended = true
	c.result <- err
	if i := slices.Index(b.waiting, c); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	}
	b.changed.Broadcast()
}

// work is a lane.
func (b *batcher) work(lane int) {
	for {
		pieces := b.take()
		if pieces == nil {
			return
		}
		ctx, release := untilAllEnd(pieces)
		err := b.run(ctx, lane, pieces)
		release()
		b.give(pieces, err)
	}
}

// take waits for a batch; nil is the end.
func (b *batcher) take() []piece {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if b.closed {
			return nil
		}
		if len(b.waiting) > 0 && b.ready() {
			return b.compose()
		}
		b.changed.Wait()
	}
}

// ready says whether the batch that could run should. b.mu is held.
func (b *batcher) ready() bool {
	n := 0
	for _, c := range b.candidates() {
		n += c.rows - c.taken
	}
	others := b.open - len(b.waiting) - b.running
	if n >= b.share() || others <= 0 {
		return true
	}
	left := b.wait - time.Since(b.waiting[0].since)
	if left <= 0 {
		return true
	}
	b.timer.Reset(left)
	return false
}

// share is how many rows a lane takes at most: where several lanes work, a
// part of what waits or may soon wait, so that one does not take all.
func (b *batcher) share() int {
	if b.lanes == 1 {
		return b.rows
	}
	rows := 0
	for _, c := range b.waiting {
		rows += c.rows - c.taken
	}
	each := max(1, rows/max(1, len(b.waiting)))
	all := max(rows, each*b.open)
	return max(1, min(b.rows, (all+b.lanes-1)/b.lanes))
}

// candidates are the waiting calls that fit with the oldest.
func (b *batcher) candidates() []*call {
	if b.mixed {
		return b.waiting
	}
	var same []*call
	for _, c := range b.waiting {
		if c.t == b.waiting[0].t {
			same = append(same, c)
		}
	}
	return same
}

// compose takes the rows of a batch. b.mu is held.
func (b *batcher) compose() []piece {
	calls := slices.Clone(b.candidates())
	parts := shareRows(calls, b.share())
	if b.fit != nil {
		n := 0
		for _, p := range parts {
			n += p
		}
		if fit := b.fit(n); fit < n {
			parts = shareRows(calls, fit)
		}
	}
	var pieces []piece
	for i, c := range calls {
		if parts[i] == 0 {
			continue
		}
		pieces = append(pieces, piece{call: c, from: c.taken, to: c.taken + parts[i]})
		c.taken += parts[i]
		if c.lanes == 0 {
			b.running++
		}
		c.lanes++
		if c.taken == c.rows {
			b.waiting = slices.Delete(b.waiting, slices.Index(b.waiting, c), slices.Index(b.waiting, c)+1)
		}
	}
	b.changed.Broadcast() // another lane may take what is left
	return pieces
}

// shareRows divides limit rows over calls, the oldest first: an equal part to
// each, but the whole of the smallest so that pictures are not cut, and what is
// left to the oldest that need more. Who gets none now is older the next time.
func shareRows(calls []*call, limit int) []int {
	parts := make([]int, len(calls))
	smallest := limit
	for _, c := range calls {
		smallest = min(smallest, c.rows-c.taken)
	}
	for equal := max(smallest, (limit+len(calls)-1)/len(calls)); limit > 0; equal = limit {
		before := limit
		for i, c := range calls {
			n := min(equal, c.rows-c.taken-parts[i], limit)
			parts[i] += n
			limit -= n
		}
		if limit == before {
			break
		}
	}
	return parts
}

// give hands out what a batch computed. The outputs are in the calls' own
// memory only where nobody has gone away.
func (b *batcher) give(pieces []piece, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range pieces {
		c := p.call
		c.lanes--
		if c.lanes == 0 {
			b.running--
		}
		c.done += p.to - p.from
		switch {
		case c.ended:
		case err != nil && c.ctx.Err() != nil:
			b.end(c, c.ctx.Err())
		case err != nil:
			b.end(c, err)
		case c.done == c.rows:
			b.end(c, nil)
		}
	}
	b.changed.Broadcast()
}

// close ends the calls that wait, and waits for the lanes.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	for _, c := range slices.Clone(b.waiting) {
		if c.lanes == 0 {
			b.end(c, errBatcherClosed)
		}
	}
	b.changed.Broadcast()
	b.mu.Unlock()
	b.finished.Wait()
	b.mu.Lock()
	for _, c := range slices.Clone(b.waiting) {
		b.end(c, errBatcherClosed)
	}
	b.mu.Unlock()
	b.timer.Stop()
}

// untilAllEnd returns a context that ends when those of all calls have ended.
func untilAllEnd(pieces []piece) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	left := len(pieces)
	var stops []func() bool
	for _, p := range pieces {
		stops = append(stops, context.AfterFunc(p.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
