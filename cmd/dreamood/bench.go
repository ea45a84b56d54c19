package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/dreamood/dreamood/internal/app"
)

// BenchCmd measures.
type BenchCmd struct {
	Generator BenchGeneratorCmd `cmd:"" help:"Measure how a diffusion model runs fastest here."`
}

// BenchGeneratorCmd measures the generator.
type BenchGeneratorCmd struct {
	Models  string `default:"models" type:"path" env:"DREAMOOD_MODELS" placeholder:"DIR" help:"Folder of diffusion models (default models)."`
	Model   string `default:"reference" placeholder:"NAME" help:"The model (default reference)."`
	Data    string `default:".dreamood" type:"path" env:"DREAMOOD_DATA" placeholder:"DIR" help:"Folder of the server's data, where what was measured is kept for serve (default .dreamood)."`
	Prompt  string `default:"A high-quality image of the cat" placeholder:"TEXT" help:"What is rendered (default: a cat)."`
	Steps   int    `default:"8" placeholder:"N" help:"Denoising steps of a picture whose time is taken (default 8)."`
	Clients int    `default:"8" placeholder:"N" help:"Clients that ask for a picture each at the same time (default 8)."`
	Compare int    `default:"8" placeholder:"N" help:"Pictures of 20 steps that are compared between precisions; 0 compares none (default 8)."`
	Threads int    `env:"DREAMOOD_THREADS" placeholder:"N" help:"Threads of the native engine, as serve gets them (default: one per core)."`
	DryRun  bool   `help:"Only print; keep nothing for serve."`
}

// Help teaches the command.
func (BenchGeneratorCmd) Help() string {
	return `Runs the model in every way that this machine offers: runs of the U-Net side by side on fewer threads each (lanes) or
one after the other, batches of several sizes, ONNX Runtime's own kernels and OpenVINO in float32 and bf16. The best way
of each provider and precision is kept in the data folder, and dreamood serve with the same --data takes it. Pictures
do not depend on lanes and batches, bit for bit; on provider and precision they do, and the table says how much:
PSNR, the largest difference of a value of 255, and the share of values that differ by more than 1.

    dreamood bench generator
    dreamood bench generator --model reference --clients 16 --dry-run`
}

// Run measures.
func (c *BenchGeneratorCmd) Run(ctx context.Context, s *Session) error {
	if c.Steps < 1 || c.Clients < 1 || c.Compare < 0 || c.Threads < 0 {
		return usage("--steps and --clients want 1 or more, --compare and --threads 0 or more")
	}
	profiles := app.Profiles(c.Data)
	if c.DryRun {
		profiles = ""
	}
	b := app.GeneratorBench{
		Model: filepath.Join(c.Models, c.Model), Prompt: c.Prompt, Threads: c.Threads, Steps: c.Steps, Clients: c.Clients, Compare: c.Compare,
	}
	const form = "%-10s %-9s %5v %5v  %11s  %11s  %s\n"
	if !s.json() {
		fmt.Fprintf(s.Out, form, "provider", "precision", "lanes", "batch", "1 client", fmt.Sprintf("%d clients", c.Clients), "pictures/s; against float32 on the CPU provider")
	}
	all, err := b.Run(ctx, profiles, func(r app.GeneratorSpeed) {
		if !s.json() {
			fmt.Fprintf(s.Out, form, r.Provider, r.Precision, r.Lanes, r.Batch, fmt.Sprintf("%.2f", r.One), fmt.Sprintf("%.2f", r.Many), differenceText(r))
		}
	})
	if err != nil {
		return err
	}
	for _, r := range all {
		if s.json() {
			line, err := json.Marshal(r)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s\n", line)
		} else if r.Chosen {
			fmt.Fprintf(s.Out, "best with %s %s: %d lanes, batch %d\n", r.Provider, r.Precision, r.Lanes, r.Batch)
		}
	}
	if profiles != "" && !s.json() {
		fmt.Fprintf(s.Out, "kept in %s for dreamood serve\n", profiles)
	}
	return nil
}

func differenceText(r app.GeneratorSpeed) string {
	switch r.PSNR {
	case 0:
		return ""
	case 999:
		return "equal"
	}
	return fmt.Sprintf("PSNR %.1f dB, at most %d of 255, %.2f %% differ by more than 1", r.PSNR, r.Worst, 100*r.Different)
}
