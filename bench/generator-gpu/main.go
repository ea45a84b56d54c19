// Command generator-gpu measures pictures per second of a Stable-Diffusion-1.5-sized model with random weights on a GPU,
// batch by batch beside PyTorch with torch.compile on the same card. Without one it says so and ends well. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
)

type settings struct {
	model, provider, dtype string
	python, compile        string
	batches                []int
	steps, repeat          int
	guidance, peak         float64
	out                    string
}

func main() {
	var s settings
	var batches string
	flag.StringVar(&s.model, "model", ".cache/bench-generator-gpu/sd15", "folder that model.py wrote")
	flag.StringVar(&s.provider, "provider", "cuda", "cuda, tensorrt, or cpu to see that all of it works")
	flag.StringVar(&s.dtype, "dtype", "float16", "of the U-Net; of the peer's text encoder too")
	flag.StringVar(&s.python, "python", "", "interpreter for the peer; empty leaves it out")
	flag.StringVar(&s.compile, "compile", "max-autotune", "mode of torch.compile; none for eager")
	flag.StringVar(&batches, "batches", "1,2,4,8,16,32", "pictures per batch")
	flag.IntVar(&s.steps, "steps", 50, "denoising steps")
	flag.IntVar(&s.repeat, "repeat", 5, "batches measured of each size")
	flag.Float64Var(&s.guidance, "guidance", 7.5, "guidance scale")
	flag.Float64Var(&s.peak, "peak", 989.4, "dense TFLOP/s of the card at this precision (H100 SXM, float16)")
	flag.StringVar(&s.out, "out", "bench/results", "folder of the record; empty writes none")
	flag.Parse()
	for _, b := range strings.Split(batches, ",") {
		n, err := strconv.Atoi(b)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "-batches %q: want numbers, as 1,2,4\n", batches)
			os.Exit(2)
		}
		s.batches = append(s.batches, n)
	}
	if err := s.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "generator-gpu:", err)
		os.Exit(1)
	}
}

func (s settings) run(ctx context.Context) error {
	if err := onnx.Open(""); err != nil {
		return err
	}
	if s.provider != "cpu" && !slices.Contains(onnx.Providers(), s.provider) {
		fmt.Printf("skip: this ONNX Runtime offers %v, not %s; README.md says how to run it on a machine with a GPU\n", onnx.Providers(), s.provider)
		return nil
	}
	flops, err := readFlops(filepath.Join(s.model, "flops.json"))
	if err != nil {
		return err
	}
	var p *peer
	if s.python != "" {
		if p, err = startPeer(s); err != nil {
			return err
		}
		defer p.close()
		fmt.Printf("peer: PyTorch %s on %s, torch.compile %s\n", p.about.Torch, p.about.Device, s.compile)
	}
	var records []record.Record
	for _, batch := range s.batches {
		r, err := s.measure(ctx, batch, flops, p)
		if err != nil {
			return fmt.Errorf("batch %d: %w", batch, err)
		}
		records = append(records, r...)
	}
	if s.out == "" || p == nil {
		return nil
	}
	record.Stamp(records)
	path, err := record.Write(s.out, "generator-"+s.provider, records)
	if err == nil {
		fmt.Println("record in", path)
	}
	return err
}

// measure renders batches of one size: step by step, in a loop graph, and with the peer.
func (s settings) measure(ctx context.Context, batch int, flops float64, p *peer) ([]record.Record, error) {
	var theirs float64
	if p != nil {
		seconds, err := p.measure(batch)
		if err != nil {
			fmt.Printf("batch %2d  peer: %v\n", batch, err)
		} else {
			theirs = float64(batch) / record.Median(seconds)
			fmt.Printf("batch %2d  %-28s %8.3f pictures/s\n", batch, "PyTorch", theirs)
		}
	}
	evaluations := float64(s.steps)
	if s.guidance > 1 {
		evaluations *= 2
	}
	var records []record.Record
	for _, loop := range []bool{false, true} {
		ours, err := s.ours(ctx, batch, loop)
		name := map[bool]string{false: "steps", true: "loop"}[loop]
		if err != nil {
			fmt.Printf("batch %2d  ours, %s: %v\n", batch, name, err)
			if batch == 1 {
				return nil, err
			}
			continue
		}
		share := flops * evaluations * ours / (s.peak * 1e12)
		fmt.Printf("batch %2d  %-28s %8.3f pictures/s, %5.1f %% of %g TFLOP/s", batch, "ours, "+name, ours, 100*share, s.peak)
		if theirs > 0 {
			fmt.Printf(", %.2f times PyTorch", ours/theirs)
		}
		fmt.Println()
		records = append(records, record.Record{
			Name: fmt.Sprintf("generator-%s/%s-batch%d", s.provider, name, batch), Unit: "pictures/s", Ours: ours, Peer: theirs, Ratio: ours / max(theirs, 1e-9),
			Setting:  fmt.Sprintf("%s, %s, %d steps, guidance %g", filepath.Base(s.model), s.dtype, s.steps, s.guidance),
			PeerName: "diffusers, torch.compile " + s.compile, Runs: s.repeat, Note: fmt.Sprintf("%.1f %% of %g TFLOP/s", 100*share, s.peak),
		})
	}
	return records, nil
}

// ours is the pictures per second of a pipeline, PNG encoding left out on both sides.
func (s settings) ours(ctx context.Context, batch int, loop bool) (float64, error) {
	p, err := diffusion.Open(filepath.Join(s.model, "onnx"), diffusion.Config{ONNX: onnx.Config{Provider: s.provider}, Batch: batch, Loop: loop})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	items := make([]diffusion.Item, batch)
	for i := range items {
		items[i] = diffusion.Item{Prompt: "a photo of the dog", Key: philox.Key{Index: uint64(i)}}
	}
	var seconds []float64
	for i := range s.repeat + 2 {
		began := time.Now()
		images, err := p.Render(ctx, items, diffusion.Options{Steps: s.steps, Guidance: s.guidance, Scheduler: diffusion.DDIM})
		if err != nil {
			return 0, err
		}
		if len(images) != batch {
			return 0, fmt.Errorf("%d pictures", len(images))
		}
		if i >= 2 {
			seconds = append(seconds, time.Since(began).Seconds())
		}
	}
	return float64(batch) / record.Median(seconds), nil
}

func readFlops(path string) (float64, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("%w; make the model first: python bench/generator-gpu/model.py", err)
	}
	if err != nil {
		return 0, err
	}
	var f struct{ Unet float64 }
	if err := json.Unmarshal(data, &f); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return f.Unet, nil
}
