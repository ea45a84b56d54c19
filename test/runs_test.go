package test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/fault"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// wait follows a run to its end and returns it; the events must not go back.
func wait(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, run *runv1.Run) *runv1.Run {
	t.Helper()
	stream, err := runv1.NewRunServiceClient(conn).WatchRun(ctx, &runv1.WatchRunRequest{Name: run.Name})
	if err != nil {
		t.Fatal(err)
	}
	var last *runv1.WatchRunResponse
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("watch %s: %v", run.Name, err)
		}
		if last != nil && (e.Sequence <= last.Sequence || e.Run.ShardsDone < last.Run.ShardsDone) {
			t.Errorf("%s went back: %v after %v", run.Name, e, last)
		}
		last = e
	}
	if last == nil {
		t.Fatalf("%s had no events", run.Name)
	}
	return last.Run
}

// succeed waits for a run that must end well, and returns the name of what it made.
func succeed(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, run *runv1.Run) string {
	t.Helper()
	began := time.Now()
	end := wait(ctx, t, conn, run)
	if end.State != runv1.RunState_RUN_STATE_SUCCEEDED {
		t.Fatalf("%s of kind %s ended as %v: %v", end.Name, end.Kind, end.State, end.Failure)
	}
	if p := end.Progress; p.Total == 0 || p.Done != p.Total {
		t.Errorf("%s of kind %s ended at %d of %d %s", end.Name, end.Kind, p.Done, p.Total, p.Unit)
	}
	t.Logf("%s took %s", end.Kind, time.Since(began).Round(100*time.Millisecond))
	return end.Result
}

// cancelSet cancels a large set while it is rendered: the run ends at once, makes nothing, and leaves its id free.
func cancelSet(ctx context.Context, t *testing.T, m mesh, space *embedderv1.Space) {
	client, runs := generatorv1.NewGeneratorServiceClient(m.generator), runv1.NewRunServiceClient(m.generator)
	r, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{SetId: "story", Space: space.Name, PerClass: 5000, Rendering: rendering()})
	if err != nil {
		t.Fatal(err)
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := runs.WatchRun(watch, &runv1.WatchRunRequest{Name: r.Run.Name})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			t.Fatalf("watch %s: %v", r.Run.Name, err)
		}
		if e.Run.Progress.Done > 0 {
			break
		}
	}
	began := time.Now()
	if _, err := runs.CancelRun(ctx, &runv1.CancelRunRequest{Name: r.Run.Name}); err != nil {
		t.Fatal(err)
	}
	end := wait(ctx, t, m.generator, r.Run)
	if took := time.Since(began); end.State != runv1.RunState_RUN_STATE_CANCELLED || took > 5*time.Second {
		t.Errorf("%s after it was cancelled: %v within %s", end.Name, end.State, took)
	}
	if _, err := client.GetSet(ctx, &generatorv1.GetSetRequest{Name: "sets/story"}); fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("the set of a cancelled run: %v", err)
	}
}
