package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// Submission holds the flags of every command that submits a run.
type Submission struct {
	Wait      bool `default:"true" negatable:"detach" help:"Follow the run to its end, the default; --detach only submits it and names it."`
	RunFlags  `embed:""`
	RequestID string `placeholder:"KEY" field:"request_id" help:"Idempotency key: the same key and request give the same run, so a script may submit twice (default: a new one)."`
}

// submit asks for a run with the idempotency key, and sees it through: it prints the run's name and returns "" when
// the user does not want to wait, else it follows the run and returns the resource name of what it made. A run that
// failed or was cancelled is an error with its exit code.
func (s *Session) submit(ctx context.Context, flags Submission, ask func(requestID string, options *runv1.RunOptions) (*runv1.Run, error)) (string, error) {
	options, err := flags.RunFlags.message()
	if err != nil {
		return "", err
	}
	id, err := requestID(flags.RequestID)
	if err != nil {
		return "", err
	}
	run, err := ask(id, options)
	if err != nil {
		return "", err
	}
	if !flags.Wait {
		if s.json() {
			return "", s.object(run)
		}
		s.say("%s", run.GetName())
		s.hint("%s of %s is under way; follow it: %s", run.GetKind(), run.GetTarget(), s.command("dreamood runs watch "+idOf(run)))
		return "", nil
	}
	run, err = s.watch(ctx, &follower{known: true}, run.GetName(), 0)
	if err != nil {
		return "", err
	}
	if s.json() {
		if err := s.object(run); err != nil {
			return "", err
		}
	}
	return run.GetResult(), s.verdict(run)
}

// watch follows a run to its end with progress. When ctx ends first, it says how to go on.
func (s *Session) watch(ctx context.Context, f *follower, name string, after uint64) (*runv1.Run, error) {
	run, err := s.track(ctx, f, name, after)
	if err != nil && ctx.Err() != nil {
		return nil, s.detached(name)
	}
	return run, err
}

// detached says how to go on with runs that are no longer followed.
func (s *Session) detached(names ...string) error {
	ids := ""
	for _, name := range names {
		ids += " " + idOf(&runv1.Run{Name: name})
	}
	them, it := "the run goes on", "it"
	if len(names) > 1 {
		them, it = "the runs go on", "them"
	}
	s.complain("detached; %s", them)
	s.complain("follow %s again: %s", it, s.command("dreamood runs watch"+ids))
	s.complain("end %s:          %s", it, s.command("dreamood runs cancel"+ids))
	return &exitError{code: exitDetached}
}

// track follows a run to its end with progress.
func (s *Session) track(ctx context.Context, f *follower, name string, after uint64) (*runv1.Run, error) {
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return nil, err
	}
	f.runs, f.show, f.name, f.after = runs, s.progress(), name, after
	if err := followAll(ctx, []*follower{f}, func(*follower) {}); err != nil {
		return nil, err
	}
	return f.run, f.err
}

// watchAll follows runs to their ends, with a line of progress each, and prints the end of each. The error is the
// worst of them.
func (s *Session) watchAll(ctx context.Context, names []string, each func(*runv1.WatchRunResponse) error) error {
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	list, rows := make([]*follower, len(names)), s.board(len(names))
	for i, name := range names {
		list[i] = &follower{runs: runs, name: name, show: rows[i], each: each}
	}
	var failed, cancelled error
	err = followAll(ctx, list, func(f *follower) {
		end := f.err
		if end == nil {
			end = s.verdict(f.run)
		}
		var exit *exitError
		switch {
		case end == nil && each == nil:
			rows[0].print(func() { s.say("%s", ending(f.run)) })
		case end == nil:
		case errors.As(end, &exit) && exit.code == exitCancelled:
			cancelled = end
			rows[0].note("%s", end)
		default:
			failed = &exitError{code: exitFailed}
			rows[0].note("%s", end)
		}
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return s.detached(names...)
	case err != nil:
		return err
	case failed != nil:
		return failed
	case cancelled != nil:
		return &exitError{code: exitCancelled}
	}
	return nil
}

// ending is a good end in a line.
func ending(run *runv1.Run) string {
	return fmt.Sprintf("%s succeeded in %s: %s", run.GetName(), took(run), run.GetResult())
}

// verdict is the result of an ended run as an error: nil when it succeeded.
func (s *Session) verdict(run *runv1.Run) error {
	switch run.GetState() {
	case runv1.RunState_RUN_STATE_SUCCEEDED:
		return nil
	case runv1.RunState_RUN_STATE_CANCELLED:
		return &exitError{exitCancelled, fmt.Errorf("%s was cancelled", run.GetName())}
	case runv1.RunState_RUN_STATE_FAILED:
		f := &fault.Error{Reason: fault.Reason(run.GetFailure().GetReason()), Message: run.GetFailure().GetMessage()}
		text := fmt.Sprintf("%s failed (%s): %s", run.GetName(), or(string(f.Reason), "no reason given"), or(f.Message, "the server gave no message"))
		if todo := s.remedy(f); todo != "" {
			text += "\ndreamood: " + todo
		}
		return &exitError{exitFailed, fmt.Errorf("%s", text)}
	}
	return nil
}

// took is the time that a run worked.
func took(run *runv1.Run) string {
	if run.GetStartTime() == nil {
		return "-"
	}
	end := time.Now()
	if run.GetEndTime() != nil {
		end = run.GetEndTime().AsTime()
	}
	return span(end.Sub(run.GetStartTime().AsTime()))
}

// idOf is the id of a run, or its name where that has no id.
func idOf(run *runv1.Run) string {
	if id, err := ood.Runs.ID(run.GetName()); err == nil {
		return id
	}
	return run.GetName()
}
