package runs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Worker does the work of one kind.
type Worker struct {
	Kind        string
	Concurrency int // shards at the same time in this call of Serve; default 1

	// Work does one shard and returns its result: a few hundred bytes, at most 384 KiB divided by the number of shards;
	// put the bulk into an artifact and return its reference. The returned error is the shard's fate: nil is done, Drop
	// fails the run, Retry and anything else is tried again, up to Config.MaxAttempts. When ctx ends, return soon:
	// context.Cause tells ErrEnded (run cancelled or failed) and ErrFenced (another worker has the shard) from a
	// shutdown, after which the shard goes back without counting an attempt. The same shard may be worked on twice,
	// even at the same time (a worker that was taken for dead); one of them commits. So the work must be a function of
	// the run and the shard, and side effects must bear repetition.
	Work func(ctx context.Context, task *Task) (result []byte, err error)

	// Stall is how long a task may go without Report or Touch. After that its lease is no longer extended and its context
	// ends with ErrStalled, which counts as an attempt: work that hangs does not keep its shard. It also bounds one call
	// of Plan, and of Finish where that does not call the package's Touch. 0: no limit.
	Stall time.Duration

	// Plan plans the runs of this kind that had to wait for others: see Spec.Plan. Its error means what Work's does.
	Plan Planner

	// Finish makes the resource out of the results in run.Shards, after the last shard is committed, and returns its
	// name. It may be called again after a crash, so it must be idempotent; its error means what Work's does. Without
	// it the result is the run's target.
	Finish func(ctx context.Context, run Run) (result string, err error)

	// Abandon cleans up after a run that FAILED or was CANCELLED: once for every shard that a worker had at its end, after
	// its Work has returned, sometimes again, and for others whose message a worker gets. Optional.
	Abandon func(ctx context.Context, run Run)
}

// Task is one attempt at one shard.
type Task struct {
	Run     Run // as it stood when the shard was claimed
	Shard   int // 0 … Run.ShardCount-1
	Attempt int // 1 for the first

	mu     sync.Mutex
	report report
	heard  time.Time // when it last showed that it gets on
}

type taskKey struct{}

// Touch shows that a Finish of this context gets on: see Worker.Stall. Elsewhere it does nothing.
func Touch(ctx context.Context) {
	if t, ok := ctx.Value(taskKey{}).(*Task); ok {
		t.Touch()
	}
}

// Touch shows that the task gets on, where there is nothing to report: see Worker.Stall.
func (t *Task) Touch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard = time.Now()
}

// quiet is for how long the task has shown nothing.
func (t *Task) quiet() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.heard)
}

// report is what a task said last.
type report struct {
	fresh       bool // not yet written
	done, total int64
	message     string
}

// Report says how far this shard is, in the run's unit; message is for people. The run shows the sum over its shards.
// It never blocks: reports are written at most every Config.ReportEvery, the last one always with the commit.
func (t *Task) Report(done, total int64, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard = time.Now()
	t.report = report{fresh: true, done: done, total: total, message: clip(message, 1024)}
}

// take returns the last report and marks it as written.
func (t *Task) take() report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.report
	t.report.fresh = false
	return r
}

// apply writes a report into the run.
func (r report) apply(run *Run, unit int) {
	if !r.fresh {
		return
	}
	shard := run.unit(unit)
	shard.Units, shard.Total = r.done, r.total
	if r.message != "" {
		run.Progress.Message = r.message
	}
}

// Serve works on the runs of one kind until ctx is done, then gives back what it holds and returns nil when all work
// has returned. Several processes may serve one kind.
func (s *Service) Serve(ctx context.Context, w Worker) error {
	if w.Concurrency == 0 {
		w.Concurrency = 1
	}
	var problems []error
	if !kindPattern.MatchString(w.Kind) {
		problems = append(problems, fmt.Errorf("kind %q: want up to 63 of a-z, 0-9 and -, the first a letter", w.Kind))
	}
	if w.Work == nil {
		problems = append(problems, errors.New("no work given"))
	}
	if w.Concurrency < 0 {
		problems = append(problems, fmt.Errorf("concurrency %d: want 1 or more", w.Concurrency))
	}
	if len(problems) > 0 {
		return fmt.Errorf("worker configuration: %w", errors.Join(problems...))
	}
	q, err := s.queue(ctx, w.Kind)
	if ctx.Err() != nil { // done before it began
		return nil
	}
	if err != nil {
		return err
	}
	if open, err := s.hub.listen(ctx, ""); err == nil { // keeps the consumer from one shard to the next
		defer open.close()
	}
	b := newBoard(q)
	stop, err := b.listen()
	if err != nil {
		return fmt.Errorf("serve %s: %w", w.Kind, err)
	}
	defer stop()
	var slots sync.WaitGroup
	for range w.Concurrency {
		slots.Go(func() {
			for pause := time.Duration(0); ctx.Err() == nil; sleep(ctx, pause) {
				pause = s.serveOne(ctx, b, &w, pause)
			}
		})
	}
	slots.Wait()
	return nil
}

// serveOne takes one message and works on it, or rests when there is none. It returns how long to wait before the next
// try: nothing, or a growing pause while the queue cannot be reached.
func (s *Service) serveOne(ctx context.Context, b *board, w *Worker, pause time.Duration) time.Duration {
	if !s.js.Conn().IsConnected() { // a pull now would only be buffered
		return 100 * time.Millisecond
	}
	called := b.called() // before the look, so that no call is missed
	msg, err := b.take(ctx)
	switch {
	case ctx.Err() != nil && err != nil: // asked to stop
	case err != nil:
		if pause == 0 {
			s.log.Warn("pull from the queue", zap.String("kind", w.Kind), zap.Error(err))
		}
		return min(max(2*pause, 100*time.Millisecond), 5*time.Second)
	case msg == nil:
		b.rest(ctx, called)
	default:
		s.deliver(ctx, w, msg)
		b.done(msg)
	}
	return 0
}

// clip cuts text for people to at most so many bytes.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const mark = " …"
	cut := most - len(mark)
	for cut > 0 && text[cut]&0xC0 == 0x80 { // in the middle of a UTF-8 sequence
		cut--
	}
	return text[:cut] + mark
}
