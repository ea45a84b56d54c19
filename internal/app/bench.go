package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
)

// GeneratorBench measures how a diffusion model runs fastest on this machine.
type GeneratorBench struct {
	Model   string // folder
	Prompt  string
	Threads int // 0 = all CPUs
	Steps   int // of a picture whose time is taken
	Clients int // that ask for a picture each at the same time
	Compare int // pictures that are compared between precisions, of 20 steps
}

// GeneratorSpeed is one way to run it. Differences are from the pictures of the CPU provider in float32.
type GeneratorSpeed struct {
	Provider   string  `json:"provider"`
	Precision  string  `json:"precision"`
	Lanes      int     `json:"lanes"`
	Batch      int     `json:"batch"`     // pictures
	One        float64 `json:"one"`       // pictures per second of one client
	Many       float64 `json:"many"`      // of all clients
	PSNR       float64 `json:"psnr_db"`   // 0 where not compared; 999 where equal
	Worst      int     `json:"worst"`     // of 255, of one value
	Different  float64 `json:"different"` // share of values that differ by more than 1
	Chosen     bool    `json:"chosen"`
	pictures   []diffusion.Image
	configured diffusion.Config
}

const compareSteps = 20

// Run measures every way, calls show after each, and keeps the best of each provider and precision in the file of profiles.
func (b GeneratorBench) Run(ctx context.Context, profiles string, show func(GeneratorSpeed)) ([]GeneratorSpeed, error) {
	threads := b.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	var all []GeneratorSpeed
	var reference []diffusion.Image
	for _, way := range b.ways(threads) {
		s, err := b.measure(ctx, way, len(all) == 0 || way.ONNX.Provider == "openvino")
		if err != nil {
			return all, fmt.Errorf("%s %s, %d lanes: %w", way.ONNX.Provider, way.ONNX.Precision, way.Lanes, err)
		}
		if reference == nil {
			reference = s.pictures
		} else if s.pictures != nil {
			s.PSNR, s.Worst, s.Different = difference(reference, s.pictures)
		}
		all = append(all, s)
		show(s)
	}
	for i := range all {
		if all[i].Chosen = best(all, all[i]); !all[i].Chosen || profiles == "" {
			continue
		}
		p := diffusion.Profile{Lanes: all[i].Lanes, Batch: all[i].Batch, Speed: all[i].Many, Measured: time.Now().UTC().Truncate(time.Second)}
		if err := diffusion.SaveProfile(profiles, b.Model, all[i].configured, p); err != nil {
			return all, err
		}
	}
	return all, nil
}

// ways are the configurations to measure: lanes on the CPU provider, and OpenVINO where it is there.
func (b GeneratorBench) ways(threads int) []diffusion.Config {
	var out []diffusion.Config
	for lanes := 1; lanes <= min(threads, 8); lanes *= 2 {
		for _, batch := range []int{2, 8, 32} {
			out = append(out, diffusion.Config{ONNX: onnx.Config{Provider: "cpu", Threads: b.Threads}, Lanes: lanes, Batch: batch})
		}
	}
	if slices.Contains(onnx.Providers(), "openvino") {
		for _, precision := range []string{"", "bf16"} {
			for _, batch := range []int{2, 8} {
				out = append(out, diffusion.Config{ONNX: onnx.Config{Provider: "openvino", Precision: precision, Threads: b.Threads}, Lanes: 1, Batch: batch})
			}
		}
	}
	return out
}

func (b GeneratorBench) measure(ctx context.Context, cfg diffusion.Config, compare bool) (s GeneratorSpeed, err error) {
	p, err := diffusion.Open(b.Model, cfg)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	s = GeneratorSpeed{Provider: cfg.ONNX.Provider, Precision: cfg.ONNX.Precision, Lanes: cfg.Lanes, Batch: cfg.Batch, configured: cfg}
	if s.Precision == "" {
		s.Precision = "fp32"
	}
	for i, n := range []int{1, b.Clients} {
		if _, err := b.render(ctx, p, n, 2); err != nil { // what is made at the first use of a batch size
			return s, err
		}
		var speeds []float64
		for range 3 {
			took, err := b.render(ctx, p, n, b.Steps)
			if err != nil {
				return s, err
			}
			speeds = append(speeds, float64(n)/took.Seconds())
		}
		slices.Sort(speeds)
		if i == 0 {
			s.One = speeds[1]
		} else {
			s.Many = speeds[1]
		}
	}
	if compare && b.Compare > 0 {
		s.pictures, err = p.Render(ctx, b.items(0, b.Compare), diffusion.Options{Steps: compareSteps, Guidance: diffusion.DefaultGuidance})
	}
	return s, err
}

func (b GeneratorBench) items(first, n int) []diffusion.Item {
	items := make([]diffusion.Item, n)
	for i := range items {
		items[i] = diffusion.Item{Prompt: b.Prompt, Key: philox.Key{Seed: 1, Index: uint64(first + i)}}
	}
	return items
}

// render lets clients ask for a picture each at the same time.
func (b GeneratorBench) render(ctx context.Context, p *diffusion.Pipeline, clients, steps int) (time.Duration, error) {
	errs := make([]error, clients)
	began := time.Now()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			_, errs[i] = p.Render(ctx, b.items(i, 1), diffusion.Options{Steps: steps, Guidance: diffusion.DefaultGuidance})
		})
	}
	all.Wait()
	return time.Since(began), errors.Join(errs...)
}

// patience is how much slower a single picture may be for the sake of many.
const patience = 1.25

// best says whether s has the most pictures per second of many clients, among those of its provider and precision that
// do not let a single one wait too long.
func best(all []GeneratorSpeed, s GeneratorSpeed) bool {
	one, most := 0.0, 0.0
	for _, o := range all {
		if o.Provider == s.Provider && o.Precision == s.Precision {
			one = max(one, o.One)
		}
	}
	for _, o := range all {
		if o.Provider == s.Provider && o.Precision == s.Precision && o.One*patience >= one {
			most = max(most, o.Many)
		}
	}
	return s.Many == most && s.One*patience >= one
}

// difference of pictures: PSNR in dB over all values, the largest, and the share of values that differ by more than 1.
func difference(want, got []diffusion.Image) (psnr float64, worst int, share float64) {
	n, sum, off := 0, 0.0, 0
	for i := range want {
		for k, v := range want[i].Pix {
			d := int(v) - int(got[i].Pix[k])
			d = max(d, -d)
			n, sum, worst = n+1, sum+float64(d*d), max(worst, d)
			if d > 1 {
				off++
			}
		}
	}
	if sum == 0 {
		return 999, 0, 0
	}
	return 10 * math.Log10(255*255*float64(n)/sum), worst, float64(off) / float64(n)
}
