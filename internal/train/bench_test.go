package train

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/onnx"
)

// BenchmarkStep reports the images per second of whole training steps on two
// threads: batch 128 of 32 by 32 pictures. The median step counts, since the
// mean of a short run is that of its slowest steps. OpenVINO is left out where
// the library does not offer it. `make bench-trainer` compares with PyTorch.
func BenchmarkStep(b *testing.B) {
	for _, provider := range []Config{{Threads: 2}, {Threads: 2, Provider: "openvino"}, {Threads: 2, Provider: "openvino", Precision: "bf16"}} {
		for _, network := range []Network{ResNet9(16), ResNet9(24), ResNet18(64)} {
			b.Run(fmt.Sprintf("%s/%s%s", network, provider.Provider, provider.Precision), func(b *testing.B) {
				benchmarkStep(b, network, provider)
			})
		}
	}
}

func benchmarkStep(b *testing.B, network Network, cfg Config) {
	if err := onnx.Open(""); err != nil {
		b.Skip(err)
	}
	const rows = 128
	t, err := New(Spec{Network: network, Head: Classifier{N: 10, Scale: 0.125}, Batch: rows}, cfg)
	if err != nil {
		b.Skip(err)
	}
	defer t.Close()
	batch := randomBatch(t.Spec(), 1)
	var times []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if _, err := t.Step(context.Background(), batch, 0.01); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	b.ReportMetric(rows/median(times).Seconds(), "images/s")
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

// randomBatch is noise with labels; the same seed gives the same batch.
func randomBatch(s Spec, seed uint64) Batch {
	r := rand.New(rand.NewPCG(seed, 0))
	b := Batch{Images: make([]float32, (s.Batch+s.Outliers)*3*s.Height*s.Width), Labels: make([]int, s.Batch)}
	for i := range b.Images {
		b.Images[i] = r.Float32()
	}
	for i := range b.Labels {
		b.Labels[i] = r.IntN(s.Head.Classes())
	}
	return b
}
