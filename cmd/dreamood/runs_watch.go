package main

import (
	"context"
	"slices"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// RunsWatchCmd follows runs.
type RunsWatchCmd struct {
	IDs   []string `arg:"" optional:"" name:"run" field:"name" help:"The runs; without any, all that have not ended."`
	Label []string `sep:"none" placeholder:"NAME[=VALUE]" help:"Without runs: only those with this label; repeatable."`
	After uint64   `field:"after_sequence" placeholder:"SEQUENCE" help:"Of one run: go on after the event of this number (json output names them); 0 begins with the first."`
}

// Help teaches the command.
func (RunsWatchCmd) Help() string {
	return `    dreamood runs watch
    dreamood runs watch 01m84wh7ypg71gy23730 01m84wj1k2x0g5q9v3c7
    dreamood runs watch --label pipeline=nightly

On a terminal every run has a bar with its speed and the time left; elsewhere a line now and then. The exit code is the
runs' result: 0 succeeded, 1 one failed, 4 one was cancelled; 130 when Ctrl+C detached from them, and they go on. With
--output json every event is one line, with its sequence number.`
}

// Validate checks what no server can.
func (c *RunsWatchCmd) Validate() error {
	if c.After > 0 && len(c.IDs) != 1 {
		return usage("--after goes on with one run; name it")
	}
	if len(c.Label) > 0 && len(c.IDs) > 0 {
		return usage("--label selects among all runs; leave the names away")
	}
	return nil
}

// Run follows the runs.
func (c *RunsWatchCmd) Run(ctx context.Context, s *Session) error {
	names, err := named(c.IDs)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if names, err = s.unfinished(ctx, c.Label); err != nil {
			return err
		}
		if len(names) == 0 {
			s.hint("no run is under way")
			return nil
		}
	}
	var each func(*runv1.WatchRunResponse) error
	if s.json() {
		each = func(event *runv1.WatchRunResponse) error { return s.object(event) }
	}
	if len(names) > 1 {
		return s.watchAll(ctx, names, each)
	}
	run, err := s.watch(ctx, &follower{each: each}, names[0], c.After)
	if err != nil {
		return err
	}
	if err := s.verdict(run); err != nil {
		return err
	}
	if !s.json() {
		s.say("%s", ending(run))
	}
	return nil
}

// unfinished names the runs that have not ended, the oldest first.
func (s *Session) unfinished(ctx context.Context, labels []string) ([]string, error) {
	var names []string
	for _, state := range []string{"pending", "running", "paused"} {
		list, err := s.selectRuns(ctx, Selection{State: state, Label: labels}, 0)
		if err != nil {
			return nil, err
		}
		for _, run := range list {
			names = append(names, run.GetName())
		}
	}
	slices.Sort(names) // ids sort by time
	return slices.Compact(names), nil
}

// named is the names of runs that the user means.
func named(given []string) ([]string, error) {
	names := make([]string, len(given))
	for i, id := range given {
		var err error
		if names[i], err = resource(ood.Runs, id); err != nil {
			return nil, err
		}
	}
	return names, nil
}
