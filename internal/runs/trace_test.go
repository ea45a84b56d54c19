package runs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/logs"
	"github.com/dreamood/dreamood/internal/stage"
)

// tracedService is a service whose spans and log lines are kept.
func tracedService(t *testing.T, b *bus.Bus, cfg Config) (*Service, *tracetest.InMemoryExporter, *observer.ObservedLogs, trace.Tracer) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	core, lines := observer.New(zap.InfoLevel)
	tracer := provider.Tracer("test")
	s, err := New(t.Context(), cfg, Deps{JS: b.JetStream(), Tracer: tracer, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, spans, lines, tracer
}

// named counts the spans of a trace by name.
func named(spans tracetest.SpanStubs, id trace.TraceID) map[string]int {
	count := map[string]int{}
	for _, s := range spans {
		if s.SpanContext.TraceID() == id {
			count[s.Name]++
		}
	}
	return count
}

// TestTraceSurvivesRedelivery: submit in one process, work in another, an attempt that fails, and a message that is
// lost and put back by a third: all of it is the trace of the submission.
func TestTraceSurvivesRedelivery(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	client, clientSpans, _, tracer := tracedService(t, b, fast)
	ctx, root := tracer.Start(t.Context(), "client")
	run, _, err := client.Submit(ctx, Spec{Kind: "dream", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	root.End()
	id := root.SpanContext().TraceID()
	if run.TraceID() != id.String() {
		t.Fatalf("the run is of trace %q, the client's is %s", run.TraceID(), id)
	}
	q, err := client.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	if err := q.purge(t.Context(), &run, nil); err != nil { // the message is lost
		t.Fatal(err)
	}
	newService(t, b, fast).Start() // a process that traces nothing puts it back

	worker, spans, lines, _ := tracedService(t, b, fast)
	stop := serve(t, worker, Worker{Kind: "dream", Work: func(ctx context.Context, task *Task) ([]byte, error) {
		if got := trace.SpanContextFromContext(ctx).TraceID(); got != id {
			t.Errorf("attempt %d works under trace %s", task.Attempt, got)
		}
		logs.From(ctx, worker.log).Info("working")
		stage.Begin(ctx, "kernel")(3, time.Millisecond)
		if task.Attempt == 1 {
			return nil, errors.New("once")
		}
		return nil, nil
	}})
	ended, _ := await(t, client, run.ID)
	wantState(t, ended, Succeeded)
	stop()

	want := map[string]int{"queue wait": 1, "shard": 2, "claim": 3, "work": 2, "kernel": 2, "commit": 2, "finish": 1, "ack": 1}
	if got := named(spans.GetSpans(), id); !maps.Equal(got, want) || len(spans.GetSpans()) != 14 {
		t.Errorf("the worker's spans are %v of %d; want %v", got, len(spans.GetSpans()), want)
	}
	if got := named(clientSpans.GetSpans(), id); !maps.Equal(got, map[string]int{"client": 1, "submit": 1}) {
		t.Errorf("the client's spans are %v", got)
	}
	checkTree(t, slices.Concat(clientSpans.GetSpans(), spans.GetSpans()), root.SpanContext().SpanID())
	checkLines(t, lines, run.ID, id.String())
}

// checkTree: from every span its parents lead to the root.
func checkTree(t *testing.T, spans tracetest.SpanStubs, root trace.SpanID) {
	t.Helper()
	byID := map[trace.SpanID]tracetest.SpanStub{}
	for _, s := range spans {
		byID[s.SpanContext.SpanID()] = s
	}
	for _, s := range spans {
		at, steps := s, 0
		for ; at.SpanContext.SpanID() != root && steps < 10; steps++ {
			at = byID[at.Parent.SpanID()]
		}
		if steps == 10 {
			t.Errorf("span %q does not lead to the client's", s.Name)
		}
		switch s.Name {
		case "kernel":
			if byID[s.Parent.SpanID()].Name != "work" || !slices.Contains(s.Attributes, attribute.Int64("dreamood.count", 3)) {
				t.Errorf("kernel is below %q with %v", byID[s.Parent.SpanID()].Name, s.Attributes)
			}
		case "queue wait":
			if len(s.Links) != 1 || byID[s.Links[0].SpanContext.SpanID()].Name != "shard" || s.EndTime.Before(s.StartTime) {
				t.Errorf("queue wait: links %v, from %s to %s", s.Links, s.StartTime, s.EndTime)
			}
		}
	}
}

// checkLines: every line about the run names it, and the lines of a shard name kind, shard, attempt and trace.
func checkLines(t *testing.T, lines *observer.ObservedLogs, run, trace string) {
	t.Helper()
	seen := map[string]int{}
	for _, line := range lines.All() {
		fields := line.ContextMap()
		seen[line.Message]++
		want := map[string]any{"run": run, "kind": "dream", "trace_id": trace}
		switch line.Message {
		case "working":
			want["shard"], want["attempt"] = int64(0), int64(seen["working"])
		case "attempt":
			want["shard"], want["attempt"] = int64(0), []int64{0, 1, 2, 1}[min(seen["attempt"], 3)] // the last is the finish
		}
		for name, value := range want {
			if fields[name] != value {
				t.Errorf("line %q has %s %v, want %v", line.Message, name, fields[name], value)
			}
		}
	}
	if seen["working"] != 2 || seen["attempt"] != 3 || seen["run"] != 2 {
		t.Errorf("lines: %v", seen)
	}
}

// heard keeps what an Observer hears.
type heard struct {
	sync.Mutex
	attempts, stages, states map[string]int
	units                    int64
	count                    map[string]int64
}

func (h *heard) Attempt(kind, outcome string) { h.add(h.attempts, kind+" "+outcome) }
func (h *heard) State(kind, state string)     { h.add(h.states, kind+" "+state) }
func (h *heard) Units(_ string, n int64)      { h.Lock(); h.units += n; h.Unlock() }
func (h *heard) Stage(kind, name string, took time.Duration, count int64) {
	if took < 0 {
		name = "negative " + name
	}
	h.add(h.stages, kind+" "+name)
	h.Lock()
	h.count[name] += count
	h.Unlock()
}
func (h *heard) add(to map[string]int, key string) { h.Lock(); to[key]++; h.Unlock() }

func TestObserver(t *testing.T) {
	t.Parallel()
	h := &heard{attempts: map[string]int{}, stages: map[string]int{}, states: map[string]int{}, count: map[string]int64{}}
	b := openBus(t, t.TempDir())
	s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Observer: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	proceed, working := make(chan bool), make(chan bool)
	stop := serve(t, s, Worker{Kind: "dream", Work: func(ctx context.Context, task *Task) ([]byte, error) {
		task.Report(8, 8, "")
		stage.Begin(ctx, "kernel")(4, 0)
		if task.Shard == 0 && task.Attempt == 1 {
			working <- true
			<-proceed
			return nil, errors.New("once")
		}
		return nil, nil
	}})
	run := submit(t, s, Spec{Shards: 2, Unit: "pictures", Total: 16})
	<-working
	if got := s.Activity(); len(got) != 1 || got[0].Kind != "dream" || got[0].Shards != 1 || got[0].Quiet <= 0 {
		t.Errorf("under way: %+v", got)
	}
	close(proceed)
	ended, _ := await(t, s, run.ID)
	wantState(t, ended, Succeeded)
	stop()
	if got := s.Activity(); len(got) != 0 {
		t.Errorf("under way after the end: %+v", got)
	}
	h.Lock()
	defer h.Unlock()
	for name, pair := range map[string][2]map[string]int{
		"attempts": {h.attempts, {"dream retry": 1, "dream done": 3}},
		"states":   {h.states, {"dream PENDING": 1, "dream RUNNING": 1, "dream SUCCEEDED": 1}},
		"stages":   {h.stages, {"dream queue": 2, "dream claim": 4, "dream work": 3, "dream kernel": 3, "dream commit": 3, "dream finish": 1, "dream ack": 2}},
	} {
		if !maps.Equal(pair[0], pair[1]) {
			t.Errorf("%s: heard %v, want %v", name, pair[0], pair[1])
		}
	}
	if h.units != 16 || h.count["kernel"] != 12 {
		t.Errorf("%d units, %d counted in the kernel; want 16 and 12", h.units, h.count["kernel"])
	}
}
