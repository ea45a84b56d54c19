package app

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/bus"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// process starts an app whose spans are kept, with a connection that is traced, too.
func process(t *testing.T, data, nats string) (*App, *grpc.ClientConn, *sdk.TracerProvider, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	sample, err := filepath.Abs("../../sample")
	if err != nil {
		t.Fatal(err)
	}
	a := newApp(t, Config{Data: data, NATS: nats, Models: models, Datasets: []string{sample}, Tracing: provider})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := a.Dial()
	if err != nil {
		t.Fatal(err)
	}
	return a, conn, provider, spans
}

// TestTraceFromClientToKernel: a client's call, the queue, a worker that is stopped in the middle and gives the work
// back, and another process that trains on from its check-point are one trace, down to the epochs in the engine.
func TestTraceFromClientToKernel(t *testing.T) {
	data := t.TempDir()
	queue, err := bus.Open(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer queue.Close()
	dataset, err := filepath.Abs("../../sample/cifar10_test.zip")
	if err != nil {
		t.Fatal(err)
	}
	first, conn, provider, before := process(t, data, queue.URL())
	ctx, root := provider.Tracer("client").Start(t.Context(), "client")
	id := root.SpanContext().TraceID()
	answer, err := embedderv1.NewEmbedderServiceClient(conn).TrainSpace(ctx, &embedderv1.TrainSpaceRequest{
		SpaceId: "traced", Dataset: dataset, Training: &embedderv1.SpaceTraining{Epochs: 6, Width: 8, BankPerClass: 40, BatchSize: 32},
	})
	if err != nil {
		t.Fatal(err)
	}
	root.End()
	follow(t, conn, answer.Run.Name, func(r *runv1.Run) bool { return r.Progress.Done > 0 })
	conn.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, conn, _, after := process(t, data, queue.URL())
	end := follow(t, conn, answer.Run.Name, func(r *runv1.Run) bool { return r.EndTime != nil })
	conn.Close()
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if end.State != runv1.RunState_RUN_STATE_SUCCEEDED {
		t.Fatalf("the run ended as %v: %v", end.State, end.Failure)
	}
	count := func(spans *tracetest.InMemoryExporter) map[string]int {
		names := map[string]int{}
		for _, s := range spans.GetSpans() {
			if s.SpanContext.TraceID() == id {
				names[s.Name]++
			}
		}
		return names
	}
	names := count(before)
	method := "dreamood.embedder.v1.EmbedderService/TrainSpace"
	if names[method] != 2 || names["submit"] != 1 || names["shard"] != 1 || names["work"] != 1 || names["commit"] != 0 {
		t.Errorf("the first process's part of the trace: %v", names)
	}
	again := count(after)
	if again["shard"] != 1 || again["work"] != 1 || again["commit"] != 2 || again["finish"] != 1 || again["epoch"] == 0 {
		t.Errorf("the second process's part of the trace: %v", again)
	}
	if epochs := names["epoch"] + again["epoch"]; epochs < 6 { // those after the last check-point are made again
		t.Errorf("%d epochs in %v and %v", epochs, slices.Collect(maps.Keys(names)), again)
	}
	for _, s := range after.GetSpans() {
		if s.Name == "shard" && !slices.Contains(s.Attributes, attribute.Int64("messaging.nats.deliveries", 2)) {
			t.Errorf("the second delivery has %v", s.Attributes)
		}
	}
}

// follow watches a run until a moment.
func follow(t *testing.T, conn grpc.ClientConnInterface, name string, until func(*runv1.Run) bool) *runv1.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stream, err := runv1.NewRunServiceClient(conn).WatchRun(ctx, &runv1.WatchRunRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			t.Fatalf("watch %s: %v", name, err)
		}
		if until(e.Run) {
			return e.Run
		}
	}
}
