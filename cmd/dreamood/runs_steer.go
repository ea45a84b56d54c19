package main

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// RunsCancelCmd ends runs.
type RunsCancelCmd struct {
	Runs []string `arg:"" name:"run" field:"name" help:"The runs."`
}

// Help teaches the command.
func (RunsCancelCmd) Help() string {
	return `Work under way stops within a second. Cancelled is final, but runs retry makes a new run that starts with the shards that
were committed. To stop for a while only: runs pause.

    dreamood runs cancel 01m84wh7ypg71gy23730`
}

// Run ends the runs.
func (c *RunsCancelCmd) Run(ctx context.Context, s *Session) error {
	return s.steer(c.Runs, func(runs runv1.RunServiceClient, name string) (*runv1.Run, error) {
		r, err := runs.CancelRun(ctx, &runv1.CancelRunRequest{Name: name})
		return r.GetRun(), err
	})
}

// RunsPauseCmd pauses runs.
type RunsPauseCmd struct {
	Runs []string `arg:"" name:"run" field:"name" help:"The runs."`
}

// Help teaches the command.
func (RunsPauseCmd) Help() string {
	return `Work under way stops within a second and keeps what it has check-pointed; the pause counts as no attempt and not to the
time limit. Workers take other runs meanwhile. A deadline goes on.

    dreamood runs pause 01m84wh7ypg71gy23730
    dreamood runs resume 01m84wh7ypg71gy23730`
}

// Run pauses the runs.
func (c *RunsPauseCmd) Run(ctx context.Context, s *Session) error {
	return s.steer(c.Runs, func(runs runv1.RunServiceClient, name string) (*runv1.Run, error) {
		r, err := runs.PauseRun(ctx, &runv1.PauseRunRequest{Name: name})
		return r.GetRun(), err
	})
}

// RunsResumeCmd resumes runs.
type RunsResumeCmd struct {
	Runs []string `arg:"" name:"run" field:"name" help:"The runs."`
}

// Run resumes the runs.
func (c *RunsResumeCmd) Run(ctx context.Context, s *Session) error {
	return s.steer(c.Runs, func(runs runv1.RunServiceClient, name string) (*runv1.Run, error) {
		r, err := runs.ResumeRun(ctx, &runv1.ResumeRunRequest{Name: name})
		return r.GetRun(), err
	})
}

// RunsRetryCmd retries runs.
type RunsRetryCmd struct {
	Runs []string `arg:"" name:"run" field:"name" help:"The runs."`
}

// Help teaches the command.
func (RunsRetryCmd) Help() string {
	return `The new run does the same request. It starts with the shards that the old one had committed, and with its check-points;
the old one stays as it ended. Retried twice, it is the same new run.

    dreamood runs retry 01m84wh7ypg71gy23730
    dreamood runs watch`
}

// Run retries the runs.
func (c *RunsRetryCmd) Run(ctx context.Context, s *Session) error {
	return s.steer(c.Runs, func(runs runv1.RunServiceClient, name string) (*runv1.Run, error) {
		r, err := runs.RetryRun(ctx, &runv1.RetryRunRequest{Name: name})
		return r.GetRun(), err
	})
}

// steer does the same to several runs and prints what became of each. It goes on where one is refused, and fails then.
func (s *Session) steer(given []string, do func(runs runv1.RunServiceClient, name string) (*runv1.Run, error)) error {
	return s.eachRun(given, func(runs runv1.RunServiceClient, name string) error {
		run, err := do(runs, name)
		switch {
		case err != nil:
			return err
		case s.json():
			return s.object(run)
		case run.GetName() != name:
			s.say("%s is tried again: %s %s", name, run.GetName(), stateOf(run))
			s.hint("follow it: %s", s.command("dreamood runs watch "+idOf(run)))
		default:
			s.say("%s %s", name, stateOf(run))
		}
		return nil
	})
}

// eachRun calls do for every run. With several, a refusal is printed and the others follow.
func (s *Session) eachRun(given []string, do func(runs runv1.RunServiceClient, name string) error) error {
	names, err := named(given)
	if err != nil {
		return err
	}
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	refused := 0
	for _, name := range names {
		err := do(runs, name)
		if err == nil {
			continue
		}
		if len(names) == 1 || errors.Is(err, context.Canceled) {
			return err
		}
		s.complain("%s: %s", name, brief(err))
		refused++
	}
	if refused > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

// RunsDeleteCmd deletes runs.
type RunsDeleteCmd struct {
	Runs []string `arg:"" name:"run" field:"name" help:"The runs."`
}

// Help teaches the command.
func (RunsDeleteCmd) Help() string {
	return `Removes the record and the events of runs that have ended, and frees their request ids. The spaces, sets and detectors
that they made stay; those have commands of their own (sets delete, …).

    dreamood runs delete 01m84wh7ypg71gy23730`
}

// Run deletes the runs.
func (c *RunsDeleteCmd) Run(ctx context.Context, s *Session) error {
	return s.eachRun(c.Runs, func(runs runv1.RunServiceClient, name string) error {
		var deleted proto.Message
		deleted, err := runs.DeleteRun(ctx, &runv1.DeleteRunRequest{Name: name})
		if err != nil {
			return err
		}
		if s.json() {
			return s.object(deleted)
		}
		s.say("%s is deleted", name)
		return nil
	})
}
