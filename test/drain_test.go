package test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/dreamood/dreamood/internal/app"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// drainSteps make a batch last some seconds.
const drainSteps = 40

// TestDrain asks a process to stop in the middle of a shard: it says that it is not ready while it still answers, gives
// the shard back without counting an attempt, and ends well; the next process goes on from the checkpoint, and the
// pictures are those that nobody disturbed.
func TestDrain(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and renders for a minute")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	dir := t.TempDir()
	program, training := build(t, dir, "dreamood", "../cmd/dreamood"), trainingSet(t, dir)
	start := serving(t, dir, program, training)
	p, m := start()
	space := trainSpace(ctx, t, m)
	render := func(m mesh, id string) *runv1.Run {
		r, err := generatorv1.NewGeneratorServiceClient(m.generator).RenderSet(ctx, &generatorv1.RenderSetRequest{
			SetId: id, Space: space.Name, PerClass: perClass, Rendering: &generatorv1.Rendering{Steps: drainSteps},
		})
		if err != nil {
			t.Fatal(err)
		}
		return r.Run
	}
	want := list(ctx, t, m.generator, succeed(ctx, t, m.generator, render(m, "undisturbed")))

	run := render(m, "drained")
	begun(ctx, t, m, run)
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	health := healthpb.NewHealthClient(m.generator)
	for told := false; !told; {
		r, err := health.Check(ctx, &healthpb.HealthCheckRequest{})
		if status.Code(err) == codes.Unavailable {
			t.Fatal("the process ended before it said that it is not ready")
		}
		if err != nil {
			t.Fatal(err)
		}
		told = r.Status == healthpb.HealthCheckResponse_NOT_SERVING
	}
	if _, err := runv1.NewRunServiceClient(m.generator).GetRun(ctx, &runv1.GetRunRequest{Name: run.Name}); err != nil {
		t.Errorf("within the delay a call ends with %v", err)
	}
	p.stopped(t)
	t.Logf("ended %s after SIGTERM", time.Since(began).Round(time.Millisecond))
	checkpoints, err := filepath.Glob(filepath.Join(dir, "data", "checkpoints", "*-*.ckpt"))
	if err != nil || len(checkpoints) == 0 {
		t.Errorf("no shard left a checkpoint: %v, %v", checkpoints, err)
	}

	p, m = start()
	end := wait(ctx, t, m.generator, run)
	if end.State != runv1.RunState_RUN_STATE_SUCCEEDED {
		t.Fatalf("%s ended as %v: %v", end.Name, end.State, end.Failure)
	}
	if end.Attempts != end.Shards {
		t.Errorf("%d shards took %d attempts; a stop counts none", end.Shards, end.Attempts)
	}
	if got := list(ctx, t, m.generator, end.Result); !maps.Equal(got, want) {
		t.Error("the pictures are not those that nobody disturbed")
	}
	if text, err := os.ReadFile(p.log); err != nil || !strings.Contains(string(text), "goes on from its checkpoint") {
		t.Errorf("no shard went on from a checkpoint: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "data", "checkpoints", "*-*.ckpt")); len(left) > 0 {
		t.Errorf("checkpoints are left: %v", left)
	}
	p.stop(t)
	abandonWork(ctx, t, start, render, want)
}

// begun waits until a run has some progress, and more of it to come.
func begun(ctx context.Context, t *testing.T, m mesh, run *runv1.Run) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := runv1.NewRunServiceClient(m.generator).WatchRun(ctx, &runv1.WatchRunRequest{Name: run.Name})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			t.Fatalf("watch %s: %v", run.Name, err)
		}
		if p := e.Run.Progress; e.Run.State == runv1.RunState_RUN_STATE_RUNNING && p.Done > 0 && p.Done < p.Total {
			return
		}
	}
}

// TestCancelReachesTheKernel cancels a run in the middle of denoising, and one in the middle of training: within a
// second the work has returned from the native engine.
func TestCancelReachesTheKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and renders for half a minute")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	core, logged := observer.New(zapcore.InfoLevel)
	a, err := app.New(ctx, app.Config{Data: filepath.Join(dir, "data"), Models: "../models", Datasets: []string{"../sample", dir}}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := a.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := mesh{conn, conn, conn, conn, trainingSet(t, dir)}
	space := trainSpace(ctx, t, m)

	rendered, err := generatorv1.NewGeneratorServiceClient(conn).RenderSet(ctx, &generatorv1.RenderSetRequest{
		SetId: "cancelled", Space: space.Name, PerClass: 20, Rendering: &generatorv1.Rendering{Steps: 500},
	})
	if err != nil {
		t.Fatal(err)
	}
	trained, err := trainerv1.NewTrainerServiceClient(conn).TrainDetector(ctx, &trainerv1.TrainDetectorRequest{
		DetectorId: "cancelled", Dataset: m.training, TestDataset: sample(t, "cifar10_test.zip"),
		Training: &trainerv1.DetectorTraining{Epochs: 500, Width: 64},
	})
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := embedderv1.NewEmbedderServiceClient(conn).TrainSpace(ctx, &embedderv1.TrainSpaceRequest{
		SpaceId: "cancelled", Dataset: m.training, Training: &embedderv1.SpaceTraining{Epochs: 500, Width: 64, BankPerClass: 80},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []*runv1.Run{rendered.Run, trained.Run, embedded.Run} {
		begun(ctx, t, m, run)
		began := time.Now()
		if _, err := runv1.NewRunServiceClient(conn).CancelRun(ctx, &runv1.CancelRunRequest{Name: run.Name}); err != nil {
			t.Fatal(err)
		}
		took := returned(t, logged, run, began)
		t.Logf("%s: its work returned %s after the cancellation was asked for", run.Kind, took.Round(time.Millisecond))
		if took > time.Second {
			t.Errorf("%s: its work returned %s after the cancellation; want a second at most", run.Kind, took)
		}
	}
}

// returned waits for the log line that says that the work of a cancelled run has returned, and tells how long that was
// after began.
func returned(t *testing.T, logged *observer.ObservedLogs, run *runv1.Run, began time.Time) time.Duration {
	t.Helper()
	id := strings.TrimPrefix(run.Name, "runs/")
	for deadline := began.Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, line := range logged.FilterMessage("attempt").FilterField(zap.String("run", id)).All() {
			if line.ContextMap()["outcome"] == "ended" {
				return line.Time.Sub(began)
			}
		}
	}
	t.Fatalf("the work of %s has not returned within a minute", run.Name)
	return 0
}
