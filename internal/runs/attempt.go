package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// attempt is one claim on a shard, or on the finish. Every change it makes to the document checks the claim first.
type attempt struct {
	*delivery
	log    *zap.Logger // the delivery's, with the attempt
	unit   int
	token  string
	run    Run // as claimed
	begun  time.Time
	report report // the last one, at the end
}

// claim takes the shard for this delivery and counts an attempt. Without one left the run fails here: the attempts
// before ended without a word, with their processes.
func (d *delivery) claim(ctx context.Context, unit int) (*attempt, bool) {
	a := &attempt{delivery: d, unit: unit, token: newID(d.s.now()), begun: time.Now()}
	ctx, done := d.enter(ctx, "claim")
	defer done()
	ctx = context.WithoutCancel(ctx) // half a claim would cost an attempt
	var before State
	run, err := d.s.persist(ctx, d.id, func(run *Run) error {
		if run.revision < d.revision { // it may not even have the shard
			return errStale
		}
		before = run.State
		u := run.unit(unit)
		switch {
		case u.Claim == a.token: // written by this call, but the answer was lost
			return errKeep
		case run.State.Terminal() || u.Done:
			return ErrEnded
		case run.State == Paused, len(run.WaitingFor) > 0:
			return ErrPaused
		}
		if u.Claim != "" && u.Pauses != run.Pauses { // the attempt before was ended by a pause
			u.Attempt--
		}
		switch {
		case u.Attempt >= d.s.cfg.MaxAttempts:
			err := fmt.Errorf("%s: attempt %d of %d never came back: its process (%s) died or hung",
				unitName(unit), u.Attempt, d.s.cfg.MaxAttempts, u.Worker)
			run.Failure, run.Dead = &Failure{Reason: d.s.reason(err), Message: err.Error()}, &dead{Unit: unit}
			run.end(Failed, d.s.now())
			return nil
		case run.expire(d.s.now()):
			return nil
		}
		u.Claim, u.Worker, u.Pauses = a.token, d.s.cfg.Process, run.Pauses
		u.Attempt++
		if run.State == Pending && unit != planUnit {
			run.State, run.Started = Running, d.s.now()
		}
		return nil
	})
	if errors.Is(err, ErrPaused) {
		d.ack(ctx) // Resume publishes another
		return nil, false
	}
	if err != nil {
		if !errors.Is(err, ErrEnded) {
			d.log.Warn("shard is not claimed", zap.Error(err))
		}
		d.giveBack(jitter(d.s.cfg.Backoff / 10)) // the next delivery looks again
		return nil, false
	}
	if run.State == Failed {
		a.step("exhausted")
	}
	if run.State != before {
		d.s.announce(ctx, run)
	}
	if run.State == Failed {
		d.abandon(ctx, run)
		return nil, false
	}
	a.run, a.log = run, d.log.With(zap.Int("attempt", run.unit(unit).Attempt))
	return a, true
}

// settle decides the fate of an attempt by the error it returned and by what became of its context. It says whether
// the work was committed, by a change that commit completes; in every other case the message is dealt with.
func (a *attempt) settle(ctx, workCtx context.Context, err error, commit func(*Run, *ShardState)) (Run, bool) {
	after := context.WithoutCancel(ctx) // a shutdown does not keep work from being committed or given back
	end := context.Cause(workCtx)
	switch {
	case errors.Is(end, ErrFenced), errors.Is(end, ErrEnded):
		a.lost(after, end)
	case err == nil:
		after, done := a.enter(after, "commit")
		defer done()
		run, err := a.change(after, func(run *Run, u *ShardState) error {
			u.Done, u.Error = true, ""
			a.report.apply(run, a.unit)
			commit(run, u)
			return nil
		})
		if err == nil {
			a.logAttempt("done", nil)
			a.step("committed")
			a.s.observe.Units(run.Kind, run.unit(a.unit).Units)
			a.s.announce(after, run)
			a.step("announced")
			return run, true
		}
		a.lost(after, err)
	case isDrop(err):
		a.fail(after, err)
	case errors.Is(end, ErrStalled):
		a.retry(after, end)
	case ctx.Err() != nil, errors.Is(end, ErrPaused):
		a.release(after)
	default:
		a.retry(after, err)
	}
	return Run{}, false
}

// change changes the document as long as the claim holds: ErrFenced and ErrEnded otherwise.
func (a *attempt) change(ctx context.Context, f func(*Run, *ShardState) error) (Run, error) {
	return a.s.persist(ctx, a.id, func(run *Run) error {
		if run.revision < a.run.revision {
			return errStale
		}
		u := run.unit(a.unit)
		switch {
		case u.Done && u.Claim == a.token: // written by this call, but the answer was lost
			return errKeep
		case run.State.Terminal():
			return ErrEnded
		case u.Claim != a.token:
			return ErrFenced
		}
		return f(run, u)
	})
}

// retry gives the shard another attempt after a back-off, or fails the run when there is none left.
func (a *attempt) retry(ctx context.Context, err error) {
	attempts := a.run.unit(a.unit).Attempt
	since, aways := a.away(err)
	free := aways > 0 && a.s.now().Sub(since) < a.s.cfg.AwayFor // the work itself was not tried
	if attempts >= a.s.cfg.MaxAttempts && !free {
		a.fail(ctx, err)
		return
	}
	wait := a.s.cfg.delay(max(attempts, aways), err)
	run, lost := a.change(ctx, func(run *Run, u *ShardState) error {
		a.report.apply(run, a.unit)
		u.Claim, u.Error, u.AwaySince, u.Aways = "", clip(err.Error(), 256), since, aways
		which := fmt.Sprintf("attempt %d of %d", attempts, a.s.cfg.MaxAttempts)
		if free {
			u.Attempt--
			which = "not counted"
		}
		run.Progress.Message = clip(fmt.Sprintf("%s: %s: %v; again in %s",
			unitName(a.unit), which, err, wait.Round(100*time.Millisecond)), 1024)
		return nil
	})
	if lost != nil {
		a.lost(ctx, lost)
		return
	}
	a.logAttempt("retry", err)
	a.step("retried")
	a.s.announce(ctx, run)
	a.giveBack(wait)
}

// away counts the attempts in a row that failed because another service is away, and says since when.
func (a *attempt) away(err error) (since time.Time, count int) {
	if !isAway(err) {
		return time.Time{}, 0
	}
	u := a.run.unit(a.unit)
	if u.Aways == 0 {
		return a.s.now(), 1
	}
	return u.AwaySince, u.Aways + 1
}

// fail ends the run.
func (a *attempt) fail(ctx context.Context, err error) {
	run, lost := a.change(ctx, func(run *Run, u *ShardState) error {
		u.Error = clip(err.Error(), 256)
		run.Failure = &Failure{Reason: a.s.reason(err), Message: clip(fmt.Sprintf("%s, attempt %d: %v", unitName(a.unit), u.Attempt, err), 4096)}
		run.Dead = &dead{Unit: a.unit, Stack: stackOf(err)}
		run.end(Failed, a.s.now())
		return nil
	})
	if lost != nil {
		a.lost(ctx, lost)
		return
	}
	a.logAttempt("failed", err)
	a.step("failed")
	a.s.announce(ctx, run)
	a.abandon(ctx, run)
}

// release gives the shard back at a shutdown or a pause, as if the attempt had not been made.
func (a *attempt) release(ctx context.Context) {
	run, lost := a.change(ctx, func(run *Run, u *ShardState) error {
		a.report.apply(run, a.unit)
		u.Claim = ""
		u.Attempt--
		return nil
	})
	if lost != nil {
		a.lost(ctx, lost)
		return
	}
	outcome := "given back"
	if run.Pauses != a.run.Pauses {
		outcome = "paused"
	}
	a.logAttempt(outcome, nil)
	a.step("released")
	if run.State == Paused {
		a.ack(ctx)
		return
	}
	a.giveBack(0)
}

// lost is the end of an attempt that may not, or could not, change the document any more.
func (a *attempt) lost(ctx context.Context, cause error) {
	switch {
	case errors.Is(cause, ErrEnded), errors.Is(cause, ErrNotFound):
		a.logAttempt("ended", nil)
		run, err := a.s.load(ctx, a.id)
		if err == nil && run.State.Terminal() {
			a.abandon(ctx, run)
		} // otherwise the message comes again when its lease runs out
	case errors.Is(cause, ErrFenced):
		a.logAttempt("fenced", nil) // the message is the other worker's
	default:
		a.logAttempt("not committed", cause) // it comes again when its lease runs out
	}
}

// logAttempt writes one line per attempt, with the stack where it panicked.
func (a *attempt) logAttempt(outcome string, err error) {
	a.traceAttempt(outcome, err)
	fields := []zap.Field{
		zap.String("outcome", outcome), zap.Duration("took", time.Since(a.begun)),
	}
	if a.unit == finishUnit {
		fields = append(fields, zap.Bool("finish", true))
	}
	if err == nil {
		a.log.Info("attempt", fields...)
		return
	}
	fields = append(fields, zap.Error(err))
	var panicked *panicError
	if errors.As(err, &panicked) {
		fields = append(fields, zap.ByteString("stack", panicked.stack))
	}
	a.log.Warn("attempt", fields...)
}

func unitName(unit int) string {
	switch unit {
	case finishUnit:
		return "finish"
	case planUnit:
		return "plan"
	}
	return fmt.Sprintf("shard %d", unit)
}
