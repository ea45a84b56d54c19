package generator

import (
	"math"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// schedulers that a request may name; "" is the model's own.
var schedulers = []string{"", diffusion.DDIM, diffusion.PNDM, diffusion.PLMS}

// decodingOf fills defaults, model being that of the space, and reports every setting that is out of bounds.
func decodingOf(q *generatorv1.Rendering, model string) (Decoding, error) {
	d := Decoding{
		Model: q.GetModel(), Steps: int(q.GetSteps()), Guidance: q.GetGuidance(), Scheduler: q.GetScheduler(),
		Prompt: q.GetPrompt(), Seed: q.GetSeed(),
	}
	if d.Model == "" {
		d.Model = model
	}
	if d.Steps == 0 {
		d.Steps = defaultSteps
	}
	if d.Guidance == 0 {
		d.Guidance = defaultGuidance
	}
	if d.Prompt == "" {
		d.Prompt = defaultPrompt
	}
	if d.Seed == 0 {
		d.Seed = 1
	}
	var c fault.Checks
	c.That(d.Steps >= 1 && d.Steps <= maxSteps, "rendering.steps", "%d; want 1 to %d", d.Steps, maxSteps)
	c.That(d.Guidance >= 1 && d.Guidance <= maxGuidance && !math.IsNaN(d.Guidance), "rendering.guidance", "%g; want 1 (none) to %d", d.Guidance, maxGuidance)
	c.That(slices.Contains(schedulers, d.Scheduler), "rendering.scheduler", "%q; want ddim, pndm, plms or nothing", d.Scheduler)
	c.That(strings.Count(d.Prompt, "{}") == 1, "rendering.prompt", "%q must hold {} once, where the class's word stands", d.Prompt)
	c.That(len(d.Prompt) <= maxPrompt, "rendering.prompt", "%d bytes; at most %d", len(d.Prompt), maxPrompt)
	return d, c.Err()
}

func (d Decoding) message() *generatorv1.Rendering {
	return &generatorv1.Rendering{
		Model: d.Model, Steps: int32(d.Steps), Guidance: d.Guidance, Scheduler: d.Scheduler, Prompt: d.Prompt, Seed: d.Seed,
	}
}
