package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/fault"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

func (f *fake) PauseRun(_ context.Context, q *runv1.PauseRunRequest) (*runv1.PauseRunResponse, error) {
	if q.Name == "runs/ended" {
		return nil, fault.New(fault.FailedPrecondition, "pause run ended, which is FAILED: too late")
	}
	return &runv1.PauseRunResponse{Run: &runv1.Run{Name: q.Name, State: runv1.RunState_RUN_STATE_PAUSED}}, nil
}

func (f *fake) RetryRun(_ context.Context, q *runv1.RetryRunRequest) (*runv1.RetryRunResponse, error) {
	return &runv1.RetryRunResponse{Run: &runv1.Run{Name: q.Name + "-again", State: pending, RetryOf: q.Name}}, nil
}

func (f *fake) DescribeQueue(context.Context, *runv1.DescribeQueueRequest) (*runv1.DescribeQueueResponse, error) {
	return &runv1.DescribeQueueResponse{Queues: []*runv1.Queue{{
		Kind: "render-set", Waiting: 12, InFlight: 2, Oldest: durationpb.New(90 * time.Second), UnitsPerSecond: 4.125,
		Lanes: []*runv1.Lane{
			{Priority: runv1.Priority_PRIORITY_HIGH, Owner: "ann", Waiting: 4, InFlight: 2, Oldest: durationpb.New(3 * time.Second)},
			{Priority: runv1.Priority_PRIORITY_NORMAL, Waiting: 8, Oldest: durationpb.New(90 * time.Second)},
		},
	}}}, nil
}

func (f *fake) ListDeadLetters(context.Context, *runv1.ListDeadLettersRequest) (*runv1.ListDeadLettersResponse, error) {
	return &runv1.ListDeadLettersResponse{DeadLetters: []*runv1.DeadLetter{{
		Name: "deadLetters/17", Run: "runs/r1", Kind: "render-set", Shard: -1, Attempts: 3, Failure: &runv1.Failure{Reason: "INTERNAL", Message: "boom"},
	}}}, nil
}

func (f *fake) RedriveDeadLetter(_ context.Context, q *runv1.RedriveDeadLetterRequest) (*runv1.RedriveDeadLetterResponse, error) {
	return &runv1.RedriveDeadLetterResponse{Run: &runv1.Run{Name: "runs/of-" + strings.TrimPrefix(q.Name, "deadLetters/"), State: pending}}, nil
}

func TestOptionsReachTheRequest(t *testing.T) {
	f := &fake{}
	f.typed(t, append(imagine, "--detach", "--priority", "high", "--label", "team=vision", "--label", "n=1", "--time-limit", "90m",
		"--deadline", "2030-01-02T03:04:05Z", "--after", "a,runs/b", "--after", "c")...).wants(t, exitOK)
	o := f.render.Options
	if o.Priority != runv1.Priority_PRIORITY_HIGH || len(o.Labels) != 2 || o.Labels["team"] != "vision" || o.TimeLimit.AsDuration() != 90*time.Minute ||
		o.Deadline.AsTime().Format(time.RFC3339) != "2030-01-02T03:04:05Z" || strings.Join(o.After, " ") != "runs/a runs/b runs/c" {
		t.Fatalf("sent %v", o)
	}
	f.typed(t, append(imagine, "--detach", "--deadline", "2h")...).wants(t, exitOK)
	if left := time.Until(f.render.Options.Deadline.AsTime()); left < 119*time.Minute || left > 2*time.Hour {
		t.Errorf("two hours from now are %s away", left)
	}
	f.typed(t, append(imagine, "--detach")...).wants(t, exitOK)
	if f.render.Options != nil {
		t.Errorf("without flags it sent %v", f.render.Options)
	}
	for _, wrong := range [][]string{{"--deadline", "soon"}, {"--deadline", "-3m"}, {"--priority", "urgent"}, {"--label", "x"}, {"--after", "../x"}, {"--time-limit", "long"}} {
		f.typed(t, append(imagine, wrong...)...).wants(t, exitUsage)
	}
}

func TestRunsListSelectsAndSaysWhatIsWaitedFor(t *testing.T) {
	run := runIn(pending, 0)
	run.WaitingFor, run.Owner, run.CreateTime = []string{"runs/first", "runs/second"}, "ann", timestamppb.New(time.Now().Add(-3*time.Minute))
	run.Options = &runv1.RunOptions{Priority: runv1.Priority_PRIORITY_LOW}
	f := &fake{ended: run}
	r := f.typed(t, "runs", "list", "--owner", "ann", "--label", "team", "--label", "a=b", "--target", "sets/demo", "--state", "pending", "--kind", "sample-set", "--limit", "1")
	r.wants(t, exitOK, "OWNER", "ann", "low", "first and 1 more", "3 min")
	if q := f.listed; q.Owner != "ann" || q.Labels["team"] != "" || q.Labels["a"] != "b" || q.Target != "sets/demo" || q.State != pending || q.Kind != "sample-set" {
		t.Fatalf("asked for %v", q)
	}
	run.Owner, run.WaitingFor, run.State = "", nil, runv1.RunState_RUN_STATE_PAUSED
	r = f.typed(t, "runs", "list", "--limit", "1")
	r.wants(t, exitOK, "paused", "runs resume", "0/4 pictures")
	if strings.Contains(r.out, "OWNER") {
		t.Errorf("a column without a value:\n%s", r.out)
	}
}

func TestRunsShowTeaches(t *testing.T) {
	run := runIn(running, 1)
	run.Queue = &runv1.QueuePlace{Ahead: 7, Waiting: 3, InFlight: 1, TimeLeft: durationpb.New(80 * time.Second)}
	run.Shards, run.Attempts = 4, 2
	run.Options = &runv1.RunOptions{Labels: map[string]string{"b": "2", "a": "1"}, Deadline: timestamppb.New(time.Now().Add(50 * time.Minute)), TimeLimit: durationpb.New(2 * time.Hour)}
	(&fake{ended: run}).typed(t, "runs", "show", "r1").wants(t, exitOK, "7 of other runs come first", "about 1 min 20 s", "a=1, b=2", "min ", " s left", "2 h 0 min", "0 of 4 committed, 2 attempts")
	failed := runIn(runv1.RunState_RUN_STATE_FAILED, 1)
	failed.Failure = &runv1.Failure{Reason: "NOT_FOUND", Message: "spaces/x: there is none"}
	(&fake{ended: failed}).typed(t, "runs", "show", "r1").wants(t, exitOK, "NOT_FOUND: spaces/x", "put right what the message names", "dreamood runs retry r1")
	failed.RetriedBy = "runs/r2"
	(&fake{ended: failed}).typed(t, "runs", "get", "r1").wants(t, exitOK, "dreamood runs show r2")
}

func TestSteeringSeveralRunsGoesOnAfterARefusal(t *testing.T) {
	f := &fake{}
	r := f.typed(t, "runs", "pause", "a", "ended", "b")
	r.wants(t, exitFailed, "runs/a paused", "runs/b paused", "runs/ended: pause run ended, which is FAILED")
	f.typed(t, "runs", "pause", "ended").wants(t, exitFailed, "too late")
	f.typed(t, "runs", "retry", "a").wants(t, exitOK, "runs/a is tried again: runs/a-again pending", "dreamood runs watch a-again")
	f.typed(t, "runs", "queue").wants(t, exitOK, "render-set", "high ann", "normal", "1 min 30 s", "4.12 pictures/s")
	f.typed(t, "runs", "queue", "--output", "json").wants(t, exitOK, `"kind":"render-set"`, `"owner":"ann"`)
	f.typed(t, "runs", "dead", "list").wants(t, exitOK, "17", "assembly", "INTERNAL")
	f.typed(t, "runs", "dead", "redrive", "17").wants(t, exitOK, "deadLetters/17 is tried again: runs/of-17")
}

func TestWatchSeveralTakesTheWorstEnd(t *testing.T) {
	end := func(name string, state runv1.RunState) *runv1.Run {
		run := runIn(state, 4)
		run.Name = name
		return run
	}
	f := &fake{streams: []func(runv1.RunService_WatchRunServer) error{
		events(1, nil, runIn(running, 1), end("runs/a", runv1.RunState_RUN_STATE_CANCELLED)),
		events(1, nil, runIn(running, 2), end("runs/b", runv1.RunState_RUN_STATE_SUCCEEDED)),
		events(1, nil, end("runs/c", runv1.RunState_RUN_STATE_FAILED)),
	}}
	f.typed(t, "runs", "watch", "x", "y", "z").wants(t, exitFailed, "runs/a was cancelled", "runs/b succeeded", "runs/c failed")
	if len(f.watched) != 3 {
		t.Fatalf("%d streams", len(f.watched))
	}
	f.typed(t, "runs", "watch", "x", "y", "--after", "3").wants(t, exitUsage, "--after")
	f.typed(t, "runs", "watch", "x", "--label", "a").wants(t, exitUsage, "--label")
}

func TestBoardStacksBarsAndPrintsAboveThem(t *testing.T) {
	var w bytes.Buffer
	c := newClock()
	b := newBoard(&w, fixed(60), c.now, false, 3)
	b.rows[0].show(at(1, 4))
	b.rows[1].show(at(2, 4))
	if !strings.HasSuffix(w.String(), "1/4 pictures\nw [=======        ] 2/4 pictures") {
		t.Fatalf("%q", w.String())
	}
	w.Reset()
	b.rows[0].close()
	b.rows[1].note("the first has ended")
	if got := w.String(); !strings.HasPrefix(got, "\r\x1b[1A\x1b[J") || !strings.Contains(got, "dreamood: the first has ended\n") || strings.Count(got, "1/4") > 0 {
		t.Fatalf("%q", got)
	}
	w.Reset()
	b.rows[1].close()
	if got := w.String(); got != "\r\x1b[J" {
		t.Fatalf("bars stay: %q", got)
	}
}
