package logs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestFrom(t *testing.T) {
	core, lines := observer.New(zap.InfoLevel)
	log := zap.New(core)
	run := With(t.Context(), zap.String("run", "r1"))
	one, two := With(run, zap.Int("shard", 1)), With(run, zap.Int("shard", 2)) // siblings share no memory
	traced := trace.ContextWithSpanContext(one, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab, 15: 1}, SpanID: trace.SpanID{1}}))
	From(t.Context(), log).Info("none")
	From(one, log).Info("one")
	From(two, log).Info("two")
	From(traced, log).Info("traced")
	var got []map[string]any
	for _, line := range lines.All() {
		got = append(got, line.ContextMap())
	}
	want := []map[string]any{
		{}, {"run": "r1", "shard": int64(1)}, {"run": "r1", "shard": int64(2)},
		{"run": "r1", "shard": int64(1), "trace_id": "ab000000000000000000000000000001"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
