package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// RunsCmd groups the commands on long work.
type RunsCmd struct {
	List   RunsListCmd   `cmd:"" help:"List runs, newest first."`
	Get    RunsGetCmd    `cmd:"" help:"Show one run."`
	Watch  RunsWatchCmd  `cmd:"" help:"Follow a run to its end."`
	Cancel RunsCancelCmd `cmd:"" help:"End runs at once, for good."`
}

// Help teaches the command.
func (RunsCmd) Help() string {
	return `A run is one piece of long work: learning a space, rendering a set, training or evaluating a detector. It
goes on when the client that submitted it is gone, and any client can follow or end it.

    dreamood runs list
    dreamood runs watch 01m84wh7ypg71gy23730
    dreamood runs cancel 01m84wh7ypg71gy23730`
}

// RunsListCmd lists runs.
type RunsListCmd struct {
	Kind  string `default:"" enum:",train-space,render-set,train-detector,evaluate-detector" field:"kind" help:"Only this kind: train-space, render-set, train-detector or evaluate-detector."`
	State string `default:"" enum:",pending,running,succeeded,failed,cancelled" field:"state" help:"Only this state: pending, running, succeeded, failed or cancelled."`
	Limit int    `default:"50" help:"At most this many; 0 for all (default 50)."`
}

// Run lists runs.
func (c *RunsListCmd) Run(ctx context.Context, s *Session) error {
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	var list []*runv1.Run
	err = eachPage(func(token string) (string, error) {
		page, err := runs.ListRuns(ctx, &runv1.ListRunsRequest{
			PageToken: token, Kind: c.Kind, State: runv1.RunState(runv1.RunState_value["RUN_STATE_"+strings.ToUpper(c.State)]),
			PageSize: int32(min(max(c.Limit-len(list), 0), 1000)),
		})
		list = append(list, page.GetRuns()...)
		if c.Limit > 0 && len(list) >= c.Limit {
			list = list[:c.Limit]
			return "", err
		}
		return page.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	var t table
	t.row("RUN", "KIND", "TARGET", "STATE", "PROGRESS", "STARTED", "TOOK")
	for _, run := range list {
		if s.json() {
			if err := s.object(run); err != nil {
				return err
			}
			continue
		}
		t.row(idOf(run), run.GetKind(), run.GetTarget(), stateOf(run), (&progress{last: standingOf(run)}).state(), when(run.GetStartTime()), took(run))
	}
	if !s.json() {
		t.print(s.Out)
	}
	return nil
}

// RunsGetCmd shows one run.
type RunsGetCmd struct {
	ID string `arg:"" name:"run" field:"name" help:"The run, as runs list names it."`
}

// Run shows the run.
func (c *RunsGetCmd) Run(ctx context.Context, s *Session) error {
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
	return s.describeRun(got.GetRun())
}

// describeRun prints one run.
func (s *Session) describeRun(run *runv1.Run) error {
	if s.json() {
		return s.object(run)
	}
	var t table
	t.row("run", run.GetName())
	t.row("kind", run.GetKind())
	t.row("target", run.GetTarget())
	t.row("state", stateOf(run))
	t.row("progress", (&progress{last: standingOf(run)}).state())
	if run.GetShards() > 0 {
		t.row("shards", fmt.Sprintf("%d of %d", run.GetShardsDone(), run.GetShards()))
	}
	if run.GetResult() != "" {
		t.row("result", run.GetResult())
	}
	if f := run.GetFailure(); f != nil {
		t.row("failure", f.GetReason()+": "+f.GetMessage())
	}
	t.row("submitted", when(run.GetCreateTime()))
	t.row("started", when(run.GetStartTime()))
	t.row("ended", when(run.GetEndTime()))
	t.row("took", took(run))
	if run.GetRequestJson() != "" {
		t.row("request", run.GetRequestJson())
	}
	t.print(s.Out)
	return nil
}

// RunsWatchCmd follows a run.
type RunsWatchCmd struct {
	ID    string `arg:"" name:"run" field:"name" help:"The run, as runs list names it."`
	After uint64 `field:"after_sequence" placeholder:"SEQUENCE" help:"Go on after the event of this number (json output names them); 0 begins with the first."`
}

// Help teaches the command.
func (RunsWatchCmd) Help() string {
	return `The exit code is the run's result: 0 succeeded, 1 failed, 4 cancelled; 130 when Ctrl+C detached from it. With
--output json every event is one line, with its sequence number.`
}

// Run follows the run.
func (c *RunsWatchCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Runs, c.ID)
	if err != nil {
		return err
	}
	f := &follower{}
	if s.json() {
		f.each = func(event *runv1.WatchRunResponse) error { return s.object(event) }
	}
	run, err := s.watch(ctx, f, name, c.After)
	if err != nil {
		return err
	}
	if err := s.verdict(run); err != nil {
		return err
	}
	if !s.json() {
		s.say("%s succeeded in %s: %s", run.GetName(), took(run), run.GetResult())
	}
	return nil
}

// RunsCancelCmd ends runs.
type RunsCancelCmd struct {
	Runs []string `arg:"" name:"run" field:"name" help:"The runs, as runs list names them."`
}

// Run ends the runs.
func (c *RunsCancelCmd) Run(ctx context.Context, s *Session) error {
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	names := make([]string, len(c.Runs))
	for i, given := range c.Runs {
		if names[i], err = resource(ood.Runs, given); err != nil {
			return err
		}
	}
	for _, name := range names {
		got, err := runs.CancelRun(ctx, &runv1.CancelRunRequest{Name: name})
		if err != nil {
			return err
		}
		if s.json() {
			if err := s.object(got.GetRun()); err != nil {
				return err
			}
			continue
		}
		s.say("%s %s", name, stateOf(got.GetRun()))
	}
	return nil
}

// stateOf is the state of a run in a word: pending, running, succeeded, failed, cancelled.
func stateOf(run *runv1.Run) string {
	return strings.ToLower(strings.TrimPrefix(run.GetState().String(), "RUN_STATE_"))
}
