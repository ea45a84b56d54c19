package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

var imagine = []string{"imagine", "demo", "--space", "s", "--per-class", "4"}

const (
	pending = runv1.RunState_RUN_STATE_PENDING
	running = runv1.RunState_RUN_STATE_RUNNING
)

func TestFollowGoesOnWhereTheConnectionBroke(t *testing.T) {
	f := &fake{streams: []func(runv1.RunService_WatchRunServer) error{
		events(1, fault.New(fault.Unavailable, "server is going down"), runIn(pending, 0), runIn(running, 1)),
		events(3, nil, runIn(running, 2), succeeded()),
	}}
	r := f.typed(t, imagine...)
	r.wants(t, exitOK, "sets/demo is ready", "connection lost", "going down", "4/4 pictures")
	if !slices.Equal(f.watched, []uint64{0, 2}) {
		t.Fatalf("watched after %v, want 0 and 2", f.watched)
	}
	if f.render.RequestId == "" || f.render.Space != "spaces/s" || f.render.SetId != "demo" {
		t.Fatalf("submitted %v", f.render)
	}
}

func TestStreamThatEndsEarlyIsAskedAbout(t *testing.T) {
	f := &fake{ended: succeeded(), streams: []func(runv1.RunService_WatchRunServer) error{events(1, nil, runIn(running, 1))}}
	f.typed(t, "runs", "watch", "r1", "--after", "7").wants(t, exitOK, "runs/r1 succeeded", "sets/demo")
	if f.watched[0] != 7 {
		t.Fatalf("watched after %v, want 7", f.watched)
	}
}

func TestExitCodeIsTheRunsResult(t *testing.T) {
	failed, cancelled := runIn(runv1.RunState_RUN_STATE_FAILED, 1), runIn(runv1.RunState_RUN_STATE_CANCELLED, 1)
	failed.Failure = &runv1.Failure{Reason: "INTERNAL", Message: "unet: out of memory; use fewer threads"}
	for _, c := range []struct {
		last *runv1.Run
		code int
		text string
	}{
		{succeeded(), exitOK, "sets/demo is ready"},
		{failed, exitFailed, "runs/r1 failed (INTERNAL): unet: out of memory; use fewer threads"},
		{cancelled, exitCancelled, "runs/r1 was cancelled"},
	} {
		f := &fake{streams: []func(runv1.RunService_WatchRunServer) error{events(1, nil, runIn(running, 1), c.last)}}
		r := f.typed(t, imagine...)
		r.wants(t, c.code, c.text)
		if n := strings.Count(r.out+r.errs, c.text); n != 1 {
			t.Errorf("%q is printed %d times\n%s", c.text, n, r.errs)
		}
	}
}

func TestInterruptDetachesAndSaysHowToGoOn(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fake{streams: []func(runv1.RunService_WatchRunServer) error{func(stream runv1.RunService_WatchRunServer) error {
		if err := stream.Send(&runv1.WatchRunResponse{Sequence: 1, Run: runIn(running, 1)}); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
		cancel()
		<-stream.Context().Done()
		return stream.Context().Err()
	}}}
	var out, errs bytes.Buffer
	code := run(ctx, append(imagine, "--server", "elsewhere:1"), &out, &errs, f.start(t, f))
	result{code, out.String(), errs.String()}.wants(t, exitDetached,
		"the run goes on", "dreamood runs watch r1 --server elsewhere:1", "dreamood runs cancel r1 --server elsewhere:1")
}

func TestDetachOnlySubmits(t *testing.T) {
	f := &fake{}
	r := f.typed(t, append(imagine, "--detach", "--request-id", "mine")...)
	r.wants(t, exitOK, "dreamood runs watch r1")
	if r.out != "runs/r1\n" || f.watched != nil || f.render.RequestId != "mine" {
		t.Fatalf("stdout %q, watched %v, request id %q", r.out, f.watched, f.render.RequestId)
	}
}

func TestAbsentServerFailsWithARemedy(t *testing.T) {
	local := rpc.NewLocal()
	local.Close()
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"runs", "watch", "r1"}, &out, &errs, func(string) (*grpc.ClientConn, error) { return local.Dial() })
	result{code, out.String(), errs.String()}.wants(t, exitFailed, "dreamood serve", "--server")
}

func TestWatchAsJSONIsOneEventPerLine(t *testing.T) {
	f := &fake{streams: []func(runv1.RunService_WatchRunServer) error{events(5, nil, runIn(running, 1), succeeded())}}
	r := f.typed(t, "runs", "watch", "runs/r1", "--output", "json")
	r.wants(t, exitOK)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), r.out)
	}
	var event struct {
		Sequence string
		Run      struct{ Name, State, Result string }
	}
	if err := json.Unmarshal([]byte(lines[1]), &event); err != nil || event.Sequence != "6" || event.Run.State != "RUN_STATE_SUCCEEDED" || event.Run.Result != "sets/demo" {
		t.Fatalf("last line %s: %v", lines[1], err)
	}
}

func TestRunsListFollowsPagesAndCancelTakesSeveral(t *testing.T) {
	f := &fake{ended: succeeded()}
	r := f.typed(t, "runs", "list", "--output", "json")
	r.wants(t, exitOK)
	if n := strings.Count(r.out, "\n"); n != 3 {
		t.Fatalf("%d runs, want 3", n)
	}
	if r := f.typed(t, "runs", "list", "--limit", "2"); strings.Count(r.out, "\n") != 3 {
		t.Fatalf("want a header and 2 runs:\n%s", r.out)
	}
	f.typed(t, "runs", "cancel", "a", "runs/b").wants(t, exitOK, "runs/a cancelled", "runs/b cancelled")
	f.typed(t, "runs", "cancel", "../x").wants(t, exitUsage, `"../x"`)
	if !slices.Equal(f.cancels, []string{"runs/a", "runs/b"}) {
		t.Fatalf("cancelled %v", f.cancels)
	}
	f.typed(t, "runs", "get", "none").wants(t, exitFailed, "runs/none", "dreamood runs list")
}
