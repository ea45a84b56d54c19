package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// RunsDeadCmd groups the commands on dead letters.
type RunsDeadCmd struct {
	List    DeadListCmd    `cmd:"" help:"List dead letters, newest first."`
	Show    DeadShowCmd    `cmd:"" help:"Show one: which shard, what went wrong, how often it was tried."`
	Redrive DeadRedriveCmd `cmd:"" help:"Try the runs of dead letters again, from what they had done."`
}

// Help teaches the command.
func (RunsDeadCmd) Help() string {
	return `A dead letter is a shard that used up its attempts, or that no attempt can help. Its run has failed. Find out why, put it
right, then redrive: a new run goes on with the shards that were committed.

    dreamood runs dead list
    dreamood runs dead show 17
    dreamood runs dead redrive 17`
}

// DeadListCmd lists dead letters.
type DeadListCmd struct {
	Kind  string `default:"" enum:",train-space,sample-set,render-set,train-detector,evaluate-detector" field:"kind" help:"Only this kind of run."`
	OfRun string `name:"run" field:"run" placeholder:"RUN" help:"Only of this run."`
	Limit int    `default:"50" help:"At most this many; 0 for all (default 50)."`
}

// Run lists dead letters.
func (c *DeadListCmd) Run(ctx context.Context, s *Session) error {
	run := c.OfRun
	var err error
	if run != "" {
		if run, err = resource(ood.Runs, run); err != nil {
			return err
		}
	}
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	var list []*runv1.DeadLetter
	err = eachPage(func(token string) (string, error) {
		page, err := runs.ListDeadLetters(ctx, &runv1.ListDeadLettersRequest{
			PageToken: token, Kind: c.Kind, Run: run, PageSize: int32(min(max(c.Limit-len(list), 0), 1000)),
		})
		list = append(list, page.GetDeadLetters()...)
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
	t.row("LETTER", "RUN", "KIND", "SHARD", "ATTEMPTS", "AGE", "REDRIVEN BY", "REASON")
	for _, d := range list {
		if s.json() {
			if err := s.object(d); err != nil {
				return err
			}
			continue
		}
		t.row(letterID(d), idOf(&runv1.Run{Name: d.GetRun()}), d.GetKind(), shardName(d.GetShard()), d.GetAttempts(), age(d.GetCreateTime()),
			or(idOf(&runv1.Run{Name: d.GetRedrivenBy()}), "-"), d.GetFailure().GetReason())
	}
	if !s.json() {
		t.print(s.Out)
	}
	return nil
}

// DeadShowCmd shows a dead letter.
type DeadShowCmd struct {
	Letter string `arg:"" name:"letter" field:"name" help:"The dead letter, as runs dead list names it."`
}

// Run shows the dead letter.
func (c *DeadShowCmd) Run(ctx context.Context, s *Session) error {
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	got, err := runs.GetDeadLetter(ctx, &runv1.GetDeadLetterRequest{Name: letterName(c.Letter)})
	if err != nil {
		return err
	}
	d := got.GetDeadLetter()
	if s.json() {
		return s.object(d)
	}
	var t table
	t.row("letter", d.GetName())
	t.row("run", d.GetRun())
	t.row("kind", d.GetKind())
	t.row("shard", shardName(d.GetShard()))
	t.row("attempts", d.GetAttempts())
	t.row("failure", d.GetFailure().GetReason()+": "+d.GetFailure().GetMessage())
	t.row("worker", or(d.GetWorker(), "-"))
	t.row("owner", or(d.GetOwner(), "-"))
	t.row("given up", when(d.GetCreateTime()))
	if d.GetRedrivenBy() != "" {
		t.row("redriven by", d.GetRedrivenBy())
	}
	t.print(s.Out)
	if d.GetRedrivenBy() == "" {
		s.hint("when the cause is gone: %s", s.command("dreamood runs dead redrive "+letterID(d)))
	}
	return nil
}

// DeadRedriveCmd redrives dead letters.
type DeadRedriveCmd struct {
	Letters []string `arg:"" name:"letter" field:"name" help:"The dead letters, as runs dead list names them."`
}

// Run redrives the dead letters.
func (c *DeadRedriveCmd) Run(ctx context.Context, s *Session) error {
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	for _, letter := range c.Letters {
		got, err := runs.RedriveDeadLetter(ctx, &runv1.RedriveDeadLetterRequest{Name: letterName(letter)})
		if err != nil {
			return err
		}
		if s.json() {
			if err := s.object(got.GetRun()); err != nil {
				return err
			}
			continue
		}
		s.say("%s is tried again: %s %s", letterName(letter), got.GetRun().GetName(), stateOf(got.GetRun()))
	}
	return nil
}

const letters = "deadLetters/"

// letterName is the resource name of a dead letter that is given as such or by its number.
func letterName(given string) string { return letters + strings.TrimPrefix(given, letters) }

func letterID(d *runv1.DeadLetter) string { return strings.TrimPrefix(d.GetName(), letters) }

// shardName is the number of a shard, or what stands in its place.
func shardName(shard int32) string {
	if shard < 0 {
		return "assembly"
	}
	return fmt.Sprint(shard)
}
