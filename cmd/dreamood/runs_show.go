package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// RunsShowCmd shows one run.
type RunsShowCmd struct {
	ID string `arg:"" name:"run" field:"name" help:"The run."`
}

// Run shows the run.
func (c *RunsShowCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Runs, c.ID)
	if err != nil {
		return err
	}
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	got, err := runs.GetRun(ctx, &runv1.GetRunRequest{Name: name})
	if err != nil {
		return err
	}
	if s.json() {
		return s.object(got.GetRun())
	}
	s.describeRun(got.GetRun())
	return nil
}

// describeRun prints one run.
func (s *Session) describeRun(run *runv1.Run) {
	var t table
	t.row("run", run.GetName())
	t.row("kind", run.GetKind())
	t.row("target", run.GetTarget())
	t.row("state", stateOf(run))
	t.row("progress", (&progress{last: standingOf(run)}).state())
	if n := run.GetShards(); n > 0 {
		t.row("shards", fmt.Sprintf("%d of %d committed, %d attempts", run.GetShardsDone(), n, run.GetAttempts()))
	}
	describeQueuePlace(&t, run)
	if run.GetResult() != "" {
		t.row("result", run.GetResult())
	}
	if f := run.GetFailure(); f != nil {
		t.row("failure", f.GetReason()+": "+f.GetMessage())
		t.row("what to do", s.afterFailure(run))
	}
	for _, link := range [][2]string{{"retry of", run.GetRetryOf()}, {"retried by", run.GetRetriedBy()}} {
		if link[1] != "" {
			t.row(link[0], link[1])
		}
	}
	describeOptions(&t, run)
	t.row("submitted", when(run.GetCreateTime()))
	t.row("started", when(run.GetStartTime()))
	t.row("ended", when(run.GetEndTime()))
	t.row("took", took(run))
	if run.GetRequestJson() != "" {
		t.row("request", run.GetRequestJson())
	}
	t.print(s.Out)
}

// describeQueuePlace says what a run waits for and how long it will still take.
func describeQueuePlace(t *table, run *runv1.Run) {
	if before := run.GetWaitingFor(); len(before) > 0 {
		t.row("waits for", strings.Join(before, ", "))
	}
	q := run.GetQueue()
	if q == nil {
		return
	}
	t.row("in the queue", fmt.Sprintf("%d shards wait, %d are worked on, %d of other runs come first", q.GetWaiting(), q.GetInFlight(), q.GetAhead()))
	if q.GetTimeLeft() != nil {
		t.row("time left", "about "+span(q.GetTimeLeft().AsDuration()))
	} else {
		t.row("time left", "not known yet")
	}
}

// describeOptions prints how a run is treated.
func describeOptions(t *table, run *runv1.Run) {
	o := run.GetOptions()
	if run.GetOwner() != "" {
		t.row("owner", run.GetOwner())
	}
	t.row("priority", wordOf(o.GetPriority()))
	if labels := o.GetLabels(); len(labels) > 0 {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			list = append(list, name+"="+labels[name])
		}
		t.row("labels", strings.Join(list, ", "))
	}
	if len(o.GetAfter()) > 0 {
		t.row("after", strings.Join(o.GetAfter(), ", "))
	}
	if d := o.GetDeadline(); d != nil {
		text := when(d)
		if left := time.Until(d.AsTime()); !final(run) && left > 0 {
			text += ", " + span(left) + " left"
		}
		t.row("deadline", text)
	}
	if o.GetTimeLimit() != nil {
		t.row("time limit", span(o.GetTimeLimit().AsDuration()))
	}
}

// afterFailure says what a user can do about a failed run.
func (s *Session) afterFailure(run *runv1.Run) string {
	if run.GetRetriedBy() != "" {
		return "it was tried again: " + s.command("dreamood runs show "+idOf(&runv1.Run{Name: run.GetRetriedBy()}))
	}
	retry := s.command("dreamood runs retry " + idOf(run))
	f := &fault.Error{Reason: fault.Reason(run.GetFailure().GetReason()), Message: run.GetFailure().GetMessage()}
	switch f.Reason {
	case fault.InvalidArgument:
		return "submit a corrected request; trying the same again cannot help"
	case fault.AlreadyExists:
		return "submit it with another name, or delete what is there and go on from what is done: " + retry
	case fault.NotFound, fault.FailedPrecondition:
		return "put right what the message names, then go on from what is done: " + retry
	case fault.DeadlineExceeded:
		return "give it more time with a new request, or go on from what is done: " + retry
	}
	return "go on from what is done: " + retry
}
