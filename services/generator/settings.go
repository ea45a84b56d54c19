package generator

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// schedulers that a request may name; "" is the model's own.
var schedulers = append([]string{""}, diffusion.Schedulers()...)

const maxTemplates = 64

// decodingOf fills defaults, model being that of the space, and reports every setting that is out of bounds.
func decodingOf(q *generatorv1.Rendering, model string) (Decoding, error) {
	d := Decoding{
		Model: q.GetModel(), Steps: int(q.GetSteps()), Guidance: q.GetGuidance(), Scheduler: q.GetScheduler(),
		Prompt: q.GetPrompt(), Seed: q.GetSeed(), Negative: q.GetNegativePrompt(), Templates: q.GetTemplates(), Eta: q.GetEta(), Strength: q.GetStrength(),
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
	if d.Prompt == "" && len(d.Templates) == 0 {
		d.Prompt = defaultPrompt
	}
	if d.Seed == 0 {
		d.Seed = 1
	}
	var c fault.Checks
	c.That(d.Steps >= 1 && d.Steps <= maxSteps, "rendering.steps", "%d; want 1 to %d", d.Steps, maxSteps)
	c.That(d.Guidance >= 1 && d.Guidance <= maxGuidance && !math.IsNaN(d.Guidance), "rendering.guidance", "%g; want 1 (none) to %d", d.Guidance, maxGuidance)
	c.That(slices.Contains(schedulers, d.Scheduler), "rendering.scheduler", "%q; want one of %s, or nothing", d.Scheduler, strings.Join(diffusion.Schedulers(), ", "))
	d.checkPrompts(&c)
	c.That(d.Eta >= 0 && d.Eta <= 1, "rendering.eta", "%g; want 0 (none) to 1", d.Eta)
	c.That(d.Eta == 0 || d.Scheduler == diffusion.DDIM || d.Scheduler == "", "rendering.eta", "%g; only ddim has one", d.Eta)
	c.That(d.Strength >= 0 && d.Strength <= 1, "rendering.strength", "%g; want more than 0 to 1", d.Strength)
	return d, c.Err()
}

// checkPrompts checks the texts.
func (d Decoding) checkPrompts(c *fault.Checks) {
	check := func(field, prompt string) {
		c.That(slots(prompt) == 1, field, "%q must hold {} or {class} once, where the class's word stands", prompt)
		c.That(len(prompt) <= maxPrompt, field, "%d bytes; at most %d", len(prompt), maxPrompt)
	}
	if len(d.Templates) == 0 {
		check("rendering.prompt", d.Prompt)
	} else {
		c.That(d.Prompt == "", "rendering.prompt", "is given beside templates; leave one of them away")
	}
	c.That(len(d.Templates) <= maxTemplates, "rendering.templates", "%d; at most %d", len(d.Templates), maxTemplates)
	for i, t := range d.Templates[:min(len(d.Templates), maxTemplates)] {
		check(fmt.Sprintf("rendering.templates[%d]", i), t)
	}
	c.That(len(d.Negative) <= maxPrompt, "rendering.negative_prompt", "%d bytes; at most %d", len(d.Negative), maxPrompt)
}

// with is the decoding of a picture that has its own settings: those that are set of prompt or templates, negative
// prompt, guidance and seed. nil where it has none.
func (d Decoding) with(own *generatorv1.Rendering) (*Decoding, error) {
	if own == nil {
		return nil, nil
	}
	m := d.message()
	if own.Prompt != "" || len(own.Templates) > 0 {
		m.Prompt, m.Templates = own.Prompt, own.Templates
	}
	m.NegativePrompt = cmp.Or(own.NegativePrompt, m.NegativePrompt)
	m.Guidance, m.Seed = cmp.Or(own.Guidance, m.Guidance), cmp.Or(own.Seed, m.Seed)
	var c fault.Checks
	for field, set := range map[string]bool{"model": own.Model != "", "steps": own.Steps != 0, "scheduler": own.Scheduler != "", "eta": own.Eta != 0, "strength": own.Strength != 0} {
		c.That(!set, "rendering."+field, "holds for all pictures of a request; set it there")
	}
	merged, err := decodingOf(m, d.Model)
	return &merged, fault.Join(c.Err(), err)
}

func (d Decoding) message() *generatorv1.Rendering {
	return &generatorv1.Rendering{
		Model: d.Model, Steps: int32(d.Steps), Guidance: d.Guidance, Scheduler: d.Scheduler, Prompt: d.Prompt, Seed: d.Seed,
		NegativePrompt: d.Negative, Templates: d.Templates, Eta: d.Eta, Strength: d.Strength,
	}
}

// modelMessage is a model on the wire.
func modelMessage(name string, s status) *generatorv1.Model {
	m := &generatorv1.Model{
		Name: name, Dimension: int32(s.Width), Height: int32(s.PictureHeight), Width: int32(s.PictureWidth), Digest: s.digest,
		State:     generatorv1.ModelState(generatorv1.ModelState_value["MODEL_STATE_"+strings.ToUpper(s.state)]),
		Precision: s.Precision, Bytes: s.Bytes, Source: s.source, Prediction: s.Prediction,
	}
	if s.problem != nil {
		m.Problem = s.problem.Error()
	}
	if !s.since.IsZero() {
		m.LoadTime = timestamppb.New(s.since)
	}
	return m
}
