package generator

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/runs"
	"github.com/dreamood/dreamood/internal/stage"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// BenchmarkShardCheckpoints renders a shard of 128 pictures with the reference model as a worker does, and says which
// part of its time went into check-points, how many there were, and how large the last one was.
func BenchmarkShardCheckpoints(b *testing.B) {
	if err := onnx.Open(""); err != nil {
		b.Fatal(err)
	}
	model, err := diffusion.Open("../../models/reference", diffusion.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { model.Close() })
	decoding, err := decodingOf(nil, "reference")
	if err != nil {
		b.Fatal(err)
	}
	space := &embedderv1.Space{Name: "spaces/s", Classes: []*embedderv1.SpaceClass{{Name: "dog", Word: "dog"}}}
	j := job{service: &Service{}, space: space, model: model, decoding: decoding, source: generatorv1.Source_SOURCE_WORDS}
	folder := b.TempDir()
	s := &Service{cfg: Config{Checkpoints: folder}, deps: Deps{Log: zap.NewNop()}}
	var spent time.Duration
	var saves int64
	ctx := stage.Listen(b.Context(), func(p stage.Part) {
		if p.Name == "checkpoint" {
			spent += p.End.Sub(p.Begin)
			saves += p.Count
		}
	})
	var size int64
	for b.Loop() {
		kept := s.progressOf(ctx, runs.Run{Origin: "run"}, 0)
		if err := j.each(ctx, []segment{{label: 0, count: 128}}, kept, nil, func(*generatorv1.Picture) error { return nil }); err != nil {
			b.Fatal(err)
		}
		if file, err := os.Stat(filepath.Join(folder, "run-0.ckpt")); err == nil {
			size = file.Size()
		}
		kept.remove()
	}
	b.ReportMetric(100*spent.Seconds()/b.Elapsed().Seconds(), "%checkpoints")
	b.ReportMetric(float64(saves)/float64(b.N), "saves/op")
	b.ReportMetric(float64(size), "bytes")
}
