package runs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/logs"
)

// lease keeps an attempt's shard while it is worked on: it tells the queue that the worker lives, writes the task's
// reports, and ends the work's context when the run has ended or the shard is another's.
type lease struct {
	*attempt
	task      *Task
	cancel    context.CancelCauseFunc
	unwritten report // the last one seen, fresh until it is written
	pace      int64  // looks from one written report to the next
	*activity
}

// hold starts the lease and returns the context for the work. release ends it, waits for it, and may be called twice.
func (a *attempt) hold(ctx context.Context, task *Task) (workCtx context.Context, release func()) {
	workCtx, cancel := context.WithCancelCause(ctx)
	workCtx = logs.With(workCtx, zap.String("run", a.id), zap.String("kind", a.w.Kind), zap.Int("shard", a.shard), zap.Int("attempt", a.run.unit(a.unit).Attempt))
	active, inactive := a.s.begin(a.w.Kind)
	task.Touch()
	l := &lease{attempt: a, task: task, cancel: cancel, activity: active, pace: pace(&a.run)}
	a.s.leases.Store(l, true)
	held, stop := context.WithCancel(context.WithoutCancel(ctx)) // a shutdown does not end the lease, the work's return does
	var keeper sync.WaitGroup
	keeper.Go(func() { l.keep(held) })
	return workCtx, sync.OnceFunc(func() {
		stop()
		keeper.Wait()
		a.s.leases.Delete(l)
		inactive()
		cancel(nil)
	})
}

func (l *lease) keep(ctx context.Context) {
	l.judge(&l.run) // it may have ended in the very write that claimed the shard
	var rung <-chan struct{}
	if l.ear != nil {
		rung = l.ear.rung
	}
	beat := time.NewTicker(l.s.cfg.Heartbeat)
	defer beat.Stop()
	flush := time.NewTimer(l.s.untilReport())
	defer flush.Stop()
	limit := time.NewTimer(l.s.untilLimit(&l.run))
	defer limit.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-rung:
			l.hear(ctx)
		case <-limit.C:
			l.expire(ctx)
			limit.Reset(time.Second)
		case <-beat.C:
			l.beat(ctx)
		case <-flush.C:
			l.flush(ctx)
			flush.Reset(l.s.untilReport())
		}
	}
}

// untilReport is the time to the next look at what tasks reported: the same moment for all leases of this process, so
// that those of one run are written together.
func (s *Service) untilReport() time.Duration {
	return s.cfg.ReportEvery - time.Since(s.born)%s.cfg.ReportEvery
}

// reportersMost is how many shards of a run may be under way before each of them reports less often: there is one
// document for all, and progress must not crowd out claims and commits.
const reportersMost = 8

// pace is how many looks pass from one written report to the next, a power of two so that leases keep step.
func pace(run *Run) int64 {
	underWay := 0
	for i := range run.Shards {
		if shard := &run.Shards[i]; shard.Claim != "" && !shard.Done {
			underWay++
		}
	}
	looks := int64(1)
	for looks*reportersMost < int64(underWay) {
		looks *= 2
	}
	return looks
}

// reportDue says whether this look writes.
func (l *lease) reportDue() bool {
	return int64(time.Since(l.s.born)/l.s.cfg.ReportEvery)%l.pace == 0
}

// hear looks at the document when an event says that the run has ended or was paused.
func (l *lease) hear(ctx context.Context) {
	heard, missed := l.ear.take()
	var revision uint64 // of the document that says so
	for _, event := range heard {
		if r := &event.Run; r.State.Terminal() || r.State == Paused || r.Pauses != l.run.Pauses {
			revision = max(revision, r.revision)
		}
	}
	if !missed && revision <= l.run.revision {
		return
	}
	for range 10 { // a replica may lag behind; after that the heartbeat looks
		if run, err := l.s.load(ctx, l.id); err == nil && run.revision >= max(revision, l.run.revision) {
			l.judge(&run)
			return
		}
		sleep(ctx, 50*time.Millisecond)
	}
}

// judge ends the work when it is of no use any more.
func (l *lease) judge(run *Run) {
	switch u := run.unit(l.unit); {
	case u.Done && u.Claim == l.token: // committed by this attempt
	case run.State.Terminal():
		l.cancel(ErrEnded)
	case u.Claim != l.token:
		l.cancel(ErrFenced)
	case run.State == Paused, run.Pauses != l.run.Pauses:
		l.cancel(ErrPaused)
	}
}

// holds says whether the attempt is still to be reported on.
func (l *lease) holds(run *Run) bool {
	u := run.unit(l.unit)
	return !run.State.Terminal() && !u.Done && u.Claim == l.token
}

// expire ends a run whose time is up, and with it the work.
func (l *lease) expire(ctx context.Context) {
	run, err := l.s.expire(ctx, l.id)
	if err != nil {
		l.log.Warn("run is not ended at its time limit yet", zap.Error(err))
		return
	}
	if run.revision >= l.run.revision {
		l.judge(&run)
	}
}

// beat looks at the document and, while the shard is still ours and gets on, extends the lease.
func (l *lease) beat(ctx context.Context) {
	if quiet := l.task.quiet(); l.w.Stall > 0 && quiet > l.w.Stall {
		l.cancel(fmt.Errorf("%w for %s", ErrStalled, quiet.Round(time.Second)))
		return
	}
	run, err := l.s.load(ctx, l.id)
	switch {
	case err == nil:
		if run.revision < l.run.revision {
			break // it says nothing of this attempt
		}
		if l.judge(&run); run.unit(l.unit).Claim != l.token {
			return
		}
	case errors.Is(err, ErrNotFound):
		l.cancel(ErrEnded)
		return
	}
	if err := l.msg.InProgress(); err != nil {
		l.log.Warn("heartbeat", zap.Error(err))
	}
}

// flush writes what the task reported since the last time.
func (l *lease) flush(ctx context.Context) {
	if r := l.task.take(); r.fresh {
		l.touch()
		l.unwritten = r
	}
	r := l.unwritten
	if !r.fresh || !l.reportDue() {
		return
	}
	l.unwritten.fresh = false
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	var written bool
	run, err := l.s.change(ctx, l.id, func(run *Run) error {
		if run.revision < l.run.revision {
			return errStale
		}
		l.judge(run)
		if written = l.holds(run); !written {
			return errKeep
		}
		r.apply(run, l.unit)
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			l.log.Warn("progress is not written", zap.Error(err))
		}
		return
	}
	if written {
		l.s.point("progress.written")
		l.s.announce(context.WithoutCancel(ctx), run)
	}
}
