package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// RunsCmd groups the commands on long work.
type RunsCmd struct {
	List   RunsListCmd   `cmd:"" help:"List runs, newest first."`
	Show   RunsShowCmd   `cmd:"" aliases:"get" help:"Show one run: where it stands, what it waits for, why it failed."`
	Watch  RunsWatchCmd  `cmd:"" help:"Follow runs to their end."`
	Cancel RunsCancelCmd `cmd:"" help:"End runs at once, for good."`
	Pause  RunsPauseCmd  `cmd:"" help:"Take runs out of the queue until they are resumed."`
	Resume RunsResumeCmd `cmd:"" help:"Put paused runs back into the queue."`
	Retry  RunsRetryCmd  `cmd:"" help:"Make new runs of failed or cancelled ones, from what they had done."`
	Delete RunsDeleteCmd `cmd:"" help:"Forget runs that have ended; what they made stays."`
	Queue  RunsQueueCmd  `cmd:"" help:"Show what waits and what is worked on, by kind, priority and owner."`
	Dead   RunsDeadCmd   `cmd:"" help:"Dead letters: shards that used up their attempts."`
}

// Help teaches the command.
func (RunsCmd) Help() string {
	return `A run is one piece of long work: learning a space, sampling or rendering a set, training or evaluating a detector.
It goes on when the client that submitted it is gone, and any client can follow or steer it. RUN is an id as runs list
prints it, or runs/ID.

    dreamood runs list --state running
    dreamood runs show 01m84wh7ypg71gy23730
    dreamood runs watch
    dreamood runs pause 01m84wh7ypg71gy23730
    dreamood runs queue

pending: waits for a worker, or for the runs in WAITS FOR. running: a worker has taken a part. paused: until runs
resume. succeeded, failed, cancelled: final; runs retry makes a new run of a failed or cancelled one.`
}

// Selection names runs by their labels and more.
type Selection struct {
	Kind   string   `default:"" enum:",train-space,sample-set,render-set,train-detector,evaluate-detector" field:"kind" help:"Only this kind: train-space, sample-set, render-set, train-detector or evaluate-detector."`
	State  string   `default:"" enum:",pending,running,paused,succeeded,failed,cancelled" field:"state" help:"Only this state: pending, running, paused, succeeded, failed or cancelled."`
	Owner  string   `field:"owner" placeholder:"NAME" help:"Only runs of this owner."`
	Label  []string `sep:"none" field:"labels" placeholder:"NAME[=VALUE]" help:"Only runs with this label, with any value where none is given; repeatable."`
	Target string   `field:"target" placeholder:"RESOURCE" help:"Only runs that make this resource, for example sets/demo."`
}

// RunsListCmd lists runs.
type RunsListCmd struct {
	Selection `embed:""`
	Limit     int `default:"50" help:"At most this many; 0 for all (default 50)."`
}

// Help teaches the command.
func (RunsListCmd) Help() string {
	return `    dreamood runs list --state failed --kind render-set
    dreamood runs list --label pipeline=nightly
    dreamood runs list --target sets/demo --limit 1

WAITS FOR names what a run that has not ended waits for: a worker, other runs, or to be resumed.`
}

// Run lists runs.
func (c *RunsListCmd) Run(ctx context.Context, s *Session) error {
	list, err := s.selectRuns(ctx, c.Selection, c.Limit)
	if err != nil {
		return err
	}
	if s.json() {
		for _, run := range list {
			if err := s.object(run); err != nil {
				return err
			}
		}
		return nil
	}
	s.tableOf(list)
	return nil
}

// selectRuns lists the runs of a selection, the newest first, at most limit unless that is 0.
func (s *Session) selectRuns(ctx context.Context, c Selection, limit int) ([]*runv1.Run, error) {
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{}
	for _, label := range c.Label {
		name, value, _ := strings.Cut(label, "=")
		labels[name] = value
	}
	var list []*runv1.Run
	err = eachPage(func(token string) (string, error) {
		page, err := runs.ListRuns(ctx, &runv1.ListRunsRequest{
			PageToken: token, Kind: c.Kind, State: runv1.RunState(runv1.RunState_value["RUN_STATE_"+strings.ToUpper(c.State)]),
			Owner: c.Owner, Labels: labels, Target: c.Target, PageSize: int32(min(max(limit-len(list), 0), 1000)),
		})
		list = append(list, page.GetRuns()...)
		if limit > 0 && len(list) >= limit {
			list = list[:limit]
			return "", err
		}
		return page.GetNextPageToken(), err
	})
	return list, err
}

// tableOf prints runs in columns; OWNER only where a run has one.
func (s *Session) tableOf(list []*runv1.Run) {
	owned := false
	for _, run := range list {
		owned = owned || run.GetOwner() != ""
	}
	var t table
	row := func(owner string, before []any, after ...any) {
		if owned {
			before = append(before, owner)
		}
		t.row(append(before, after...)...)
	}
	row("OWNER", []any{"RUN", "KIND", "TARGET", "STATE", "PROGRESS", "PRIORITY"}, "AGE", "WAITS FOR")
	for _, run := range list {
		row(or(run.GetOwner(), "-"), []any{idOf(run), run.GetKind(), run.GetTarget(), stateOf(run), amount(run), wordOf(run.GetOptions().GetPriority())},
			age(run.GetCreateTime()), waitsFor(run))
	}
	t.print(s.Out)
}

// stateOf is the state of a run in a word: pending, running, paused, succeeded, failed, cancelled.
func stateOf(run *runv1.Run) string {
	return strings.ToLower(strings.TrimPrefix(run.GetState().String(), "RUN_STATE_"))
}

// amount is how far a run is in a few words: "12/50 pictures", or a dash before it has begun.
func amount(run *runv1.Run) string {
	st := standingOf(run)
	if st.waiting && st.done == 0 {
		return "-"
	}
	st.waiting = false
	return (&progress{last: st}).count()
}

// waitsFor is what a run that has not ended waits for, or a dash.
func waitsFor(run *runv1.Run) string {
	switch before := run.GetWaitingFor(); {
	case run.GetState() == runv1.RunState_RUN_STATE_PAUSED:
		return "runs resume"
	case run.GetState() != runv1.RunState_RUN_STATE_PENDING:
		return "-"
	case len(before) == 0:
		return "a worker"
	case len(before) == 1:
		return idOf(&runv1.Run{Name: before[0]})
	default:
		return fmt.Sprintf("%s and %d more", idOf(&runv1.Run{Name: before[0]}), len(before)-1)
	}
}

// age is the time since t.
func age(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return span(max(time.Since(t.AsTime()), 0).Round(time.Second))
}
