package telemetry_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/runs"
	"github.com/dreamood/dreamood/internal/stage"
	"github.com/dreamood/dreamood/internal/telemetry"
)

// BenchmarkShard is what the bookkeeping of a shard without work costs, with telemetry off, with metrics, and with
// traces to a file on top. Their difference is what telemetry costs a shard.
func BenchmarkShard(b *testing.B) {
	for _, c := range []struct {
		name            string
		metrics, traces bool
	}{{"off", false, false}, {"metrics", true, false}, {"metrics and traces", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			queue, err := bus.Open(b.Context(), bus.Config{Dir: b.TempDir(), NoSync: true})
			if err != nil {
				b.Fatal(err)
			}
			defer queue.Close()
			deps := runs.Deps{JS: queue.JetStream()}
			if c.metrics {
				deps.Observer = telemetry.New(telemetry.Config{Kinds: []string{"dream"}})
			}
			if c.traces {
				tracing, err := telemetry.StartTracing(b.Context(), telemetry.TracingConfig{Service: "bench", File: filepath.Join(b.TempDir(), "t.jsonl")})
				if err != nil {
					b.Fatal(err)
				}
				defer tracing.Close()
				deps.Tracer = tracing.Provider().Tracer("bench")
			}
			shards(b, deps)
		})
	}
}

// shards takes b.N shards, one after the other, each with the parts of a rendered batch.
func shards(b *testing.B, deps runs.Deps) {
	service, err := runs.New(b.Context(), runs.Config{}, deps)
	if err != nil {
		b.Fatal(err)
	}
	defer service.Close()
	ctx, cancel := context.WithCancel(b.Context())
	done, ended := make(chan struct{}, 512), make(chan error)
	go func() {
		ended <- service.Serve(ctx, runs.Worker{Kind: "dream", Work: func(ctx context.Context, _ *runs.Task) ([]byte, error) {
			for _, part := range []string{"load_model", "embeddings", "text_encoder", "denoise", "vae", "png"} {
				stage.Begin(ctx, part)(1, 0)
			}
			done <- struct{}{}
			return nil, nil
		}})
	}()
	left := 0
	for b.Loop() {
		if left == 0 {
			if _, _, err := service.Submit(ctx, runs.Spec{Kind: "dream", Shards: 64}); err != nil {
				b.Fatal(err)
			}
			left = 64
		}
		<-done
		left--
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
