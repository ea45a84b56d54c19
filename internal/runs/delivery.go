package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/logs"
)

// orphanDeliveries is how often a message without a run is given back before it is dropped: a replica of the bucket may
// lag behind the queue.
const orphanDeliveries = 5

// delivery is one message in the hands of a worker.
type delivery struct {
	s     *Service
	w     *Worker
	msg   jetstream.Msg
	id    string // of the run
	shard int
	log   *zap.Logger // with run, kind, shard and trace
	span  trace.Span
	ear   *ear // hears of the run while it is worked on

	revision uint64 // of the document when it was looked at
}

// deliver decides what a message asks for, by the run's document, and does it.
func (s *Service) deliver(ctx context.Context, w *Worker, msg jetstream.Msg) {
	var ref message
	if err := json.Unmarshal(msg.Data(), &ref); err != nil || ref.Shard < 0 && ref.Shard != planUnit {
		s.log.Error("message is none of ours, dropped", zap.String("subject", msg.Subject()), zap.Error(err))
		_ = msg.Term() // delivered again, it is dropped again
		return
	}
	d := &delivery{s: s, w: w, msg: msg, id: ref.Run, shard: ref.Shard,
		log: s.log.With(zap.String("run", ref.Run), zap.String("kind", w.Kind), zap.Int("shard", ref.Shard))}
	s.point("message.received")
	ctx, d.span = d.arrive(ctx)
	defer d.span.End()
	d.log = d.log.With(logs.Trace(ctx))
	if ctx.Err() != nil {
		d.giveBack(0)
		return
	}
	run, err := s.look(ctx, d.id, ref.Revision)
	d.revision = run.revision
	switch {
	case errors.Is(err, ErrNotFound):
		d.orphan()
	case err == nil && !run.Unplanned && d.shard >= run.ShardCount:
		d.log.Error("the run has no such shard, message dropped")
		d.ack(ctx)
	case err != nil:
		d.log.Warn("message is given back", zap.Error(err))
		d.giveBack(jitter(time.Second))
	case run.revision < ref.Revision || run.Unplanned && d.shard != planUnit: // a replica that lags behind
		d.giveBack(jitter(100 * time.Millisecond))
	case run.State.Terminal():
		d.abandon(ctx, run)
	case run.State == Paused, len(run.WaitingFor) > 0:
		d.ack(ctx) // who resumes or releases it publishes another
	default:
		d.attend(ctx, run)
	}
}

// attend does what is left to do for the shard, and listens meanwhile.
func (d *delivery) attend(ctx context.Context, run Run) {
	var err error
	if d.ear, err = d.s.hub.listen(ctx, d.id); err != nil {
		d.log.Warn("nothing is heard of the run, it is only looked at with every heartbeat", zap.Error(err))
	}
	defer d.ear.close()
	switch {
	case d.shard == planUnit:
		d.plan(ctx, run)
	case !run.Shards[d.shard].Done:
		d.work(ctx)
	default:
		d.finish(ctx, run)
	}
}

// work makes an attempt at the shard.
func (d *delivery) work(ctx context.Context) {
	a, ok := d.claim(ctx, d.shard)
	if !ok {
		return
	}
	task := &Task{Run: a.run, Shard: d.shard, Attempt: a.run.Shards[d.shard].Attempt}
	a.step("claimed")
	workCtx, release := a.hold(ctx, task)
	defer release()
	workCtx, end := d.enter(workCtx, "work")
	var result []byte
	err := guard(func() (err error) {
		result, err = d.w.Work(workCtx, task)
		return err
	})
	end()
	if most := maxResults / a.run.ShardCount; err == nil && len(result) > most {
		err = Drop(fmt.Errorf("result of %d bytes: at most %d with %d shards; put it into an artifact and return its reference",
			len(result), most, a.run.ShardCount))
	}
	a.step("worked")
	a.report = task.take()
	a.report.fresh = a.report != (report{}) // the lease may have seen it and not written it
	run, committed := a.settle(ctx, workCtx, err, func(run *Run, shard *ShardState) {
		shard.Result = result
		shard.Millis = a.took(run)
		if run.sum(); run.allDone() {
			run.Finisher = d.shard
		}
	})
	if committed {
		d.s.measure(ctx, d.w.Kind, run.Shards[d.shard])
		release()
		d.finish(ctx, run)
	}
}

// finish assembles the result when the shard of this message was the last one; otherwise its message is done with.
func (d *delivery) finish(ctx context.Context, run Run) {
	if !run.allDone() || run.Finisher != d.shard || run.State == Paused {
		d.ack(ctx)
		return
	}
	if ctx.Err() != nil {
		d.giveBack(0)
		return
	}
	ctx, end := d.enter(ctx, "finish")
	defer end()
	a, ok := d.claim(ctx, finishUnit)
	if !ok {
		return
	}
	a.step("claimed")
	task := &Task{}
	workCtx, release := a.hold(ctx, task)
	defer release()
	result := a.run.Target
	var err error
	if d.w.Finish != nil {
		err = guard(func() (err error) {
			result, err = d.w.Finish(context.WithValue(workCtx, taskKey{}, task), a.run)
			return err
		})
	}
	a.step("worked")
	_, committed := a.settle(ctx, workCtx, err, func(run *Run, _ *ShardState) {
		run.Result = clip(result, maxName)
		run.end(Succeeded, d.s.now())
	})
	if committed {
		d.ack(ctx)
	}
}

// abandon drops the message of a run that has ended.
func (d *delivery) abandon(ctx context.Context, run Run) {
	if d.w.Abandon != nil && run.State != Succeeded {
		err := guard(func() error {
			d.w.Abandon(context.WithoutCancel(ctx), run)
			return nil
		})
		if err != nil {
			d.log.Error("abandon", zap.Error(err))
		}
	}
	if run.Dead != nil && d.shard == run.deadShard() {
		if err := d.s.bury(ctx, run); err != nil {
			d.log.Warn("dead letter is not written yet", zap.Error(err))
			d.giveBack(jitter(d.s.cfg.Backoff)) // and written when the message comes again
			return
		}
	}
	d.s.point("message.dead")
	d.ack(ctx)
}

// orphan is the fate of a message whose run is not there.
func (d *delivery) orphan() {
	meta, err := d.msg.Metadata()
	if err == nil && meta.NumDelivered < orphanDeliveries {
		d.giveBack(jitter(time.Second))
		return
	}
	d.log.Warn("message without a run, dropped")
	_ = d.msg.Term() // delivered again, it is dropped again
}

// ack takes the message out of the queue. Unanswered it comes again, and the document says that nothing is left to do.
func (d *delivery) ack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWait)
	defer cancel()
	ctx, end := d.enter(ctx, "ack")
	defer end()
	if err := d.msg.DoubleAck(ctx); err != nil {
		d.log.Warn("acknowledgement is not confirmed", zap.Error(err))
		return
	}
	d.s.point("message.acked")
}

// giveBack returns the message to the queue, to be delivered again after a while.
func (d *delivery) giveBack(after time.Duration) {
	var err error
	if after > 0 {
		err = d.msg.NakWithDelay(after)
	} else {
		err = d.msg.Nak()
	}
	if err != nil { // it comes again when its lease runs out
		d.log.Warn("message is not given back", zap.Error(err))
		return
	}
	d.s.wakeAgain(d.msg.Subject(), after)
}

// panicError is a panic of a worker's function.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// guard calls f and turns its panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value: value, stack: debug.Stack()}
		}
	}()
	return f()
}
