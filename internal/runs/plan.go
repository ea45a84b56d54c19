package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// apply writes a plan into a run. It reports every problem at once.
func (s *Service) apply(run *Run, p Plan) error {
	var problems []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	if p.Shards == 0 {
		p.Shards = 1
	}
	most := min(maxShards, s.cfg.MaxPending)
	require(p.Shards >= 1 && p.Shards <= most, "%d shards: want 1 to %d", p.Shards, most)
	require(p.Total >= 0, "total %d: want 0 or more", p.Total)
	require(len(p.Target) <= maxName, "target of %d bytes: want at most %d", len(p.Target), maxName)
	require(len(p.Unit) <= maxName, "unit of %d bytes: want at most %d", len(p.Unit), maxName)
	require(len(p.Payload) <= maxPayload, "payload of %d bytes: want at most %d; put the bulk into an artifact", len(p.Payload), maxPayload)
	var compact bytes.Buffer
	if len(p.Payload) > 0 {
		if err := json.Compact(&compact, p.Payload); err != nil {
			problems = append(problems, fmt.Errorf("payload: want JSON: %w", err))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w plan: %w", ErrInvalid, errors.Join(problems...))
	}
	if compact.Len() > 0 {
		run.Payload = compact.Bytes()
	}
	setDefault(&p.Target, run.Target)
	setDefault(&p.Unit, run.Progress.Unit)
	run.Unplanned, run.Shards, run.Planned = false, make([]ShardState, p.Shards), p.Total
	run.Target, run.Progress.Unit = p.Target, p.Unit
	run.sum()
	return nil
}

// plan makes an attempt at the planning of a run that had to wait for others, and queues its shards. A message that
// comes again after that only does the rest.
func (d *delivery) plan(ctx context.Context, run Run) {
	if run.Unplanned {
		a, ok := d.claim(ctx, planUnit)
		if !ok {
			return
		}
		a.step("claimed")
		workCtx, release := a.hold(ctx, &Task{Run: a.run, Shard: planUnit, Attempt: a.run.Planning.Attempt})
		defer release()
		p, err := d.callPlan(workCtx, a.run)
		a.step("worked")
		var committed bool
		if run, committed = a.settle(ctx, workCtx, err, func(run *Run, _ *ShardState) { _ = d.s.apply(run, p) }); !committed {
			return
		}
		release()
	}
	if err := d.s.publishAll(context.WithoutCancel(ctx), run, "q"+strconv.FormatUint(run.revision, 10)); err != nil {
		d.log.Warn("planned shards are not queued yet", zap.Error(err))
		d.giveBack(jitter(time.Second))
		return
	}
	d.ack(ctx)
}

// callPlan returns a plan that can be applied.
func (d *delivery) callPlan(ctx context.Context, run Run) (p Plan, err error) {
	if d.w.Plan == nil {
		return Plan{}, Drop(fmt.Errorf("the worker of %s has no plan for runs that wait for others", d.w.Kind))
	}
	ctx, end := d.enter(ctx, "plan")
	defer end()
	err = guard(func() (err error) {
		p, err = d.w.Plan(ctx, run.Payload, run.ID)
		return err
	})
	if err == nil {
		if err = d.s.apply(&run, p); err != nil {
			err = Drop(err)
		}
	}
	return p, err
}
