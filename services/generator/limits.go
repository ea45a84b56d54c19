package generator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/fault"
)

// Limits are the caps of this server on what one request may ask for, and on what waits. Zero is the default, which is
// the most that the API allows.
type Limits struct {
	Steps    int     // denoising steps; default 1000
	Guidance float64 // default 30
	Prompt   int     // bytes of a prompt; default 1000
	Pictures int     // of one RenderOutliers; default 1000
	PerClass int     // of one set; default 100,000
	Edge     int     // pixels of a picture's longer side; default 2048

	Waiting int // pictures of RenderOutliers that are admitted and not rendered; default 4 × Pictures
	Calls   int // of RenderOutliers under way, those that wait for slow clients too; default 256
	Engine  int // pictures of RenderOutliers that the engine works on at once; default 64
}

// The most that the API allows, which no configuration raises.
const (
	maxSteps    = 1000
	maxGuidance = 30
	maxPrompt   = 1000    // bytes
	maxCount    = 1000    // pictures of one RenderOutliers
	maxPerClass = 100_000 // pictures per class of one set
	maxEdge     = 1 << 14 // pixels
)

func (l Limits) withDefaults() Limits {
	l.Steps = cmp.Or(l.Steps, maxSteps)
	l.Guidance = cmp.Or(l.Guidance, maxGuidance)
	l.Prompt = cmp.Or(l.Prompt, maxPrompt)
	l.Pictures = cmp.Or(l.Pictures, maxCount)
	l.PerClass = cmp.Or(l.PerClass, maxPerClass)
	l.Edge = cmp.Or(l.Edge, 2048)
	l.Waiting = cmp.Or(l.Waiting, 4*l.Pictures)
	l.Calls = cmp.Or(l.Calls, 256)
	l.Engine = cmp.Or(l.Engine, 64)
	return l
}

// Validate reports every problem at once, with the flag that mends it. Zero values are those of withDefaults.
func (l Limits) Validate() error {
	l = l.withDefaults()
	var errs []error
	bound := func(flag string, value, most int) {
		if value < 1 || value > most {
			errs = append(errs, fmt.Errorf("%s %d: want 1 to %d", flag, value, most))
		}
	}
	bound("--max-steps", l.Steps, maxSteps)
	bound("--max-prompt", l.Prompt, maxPrompt)
	bound("--max-pictures", l.Pictures, maxCount)
	bound("--max-per-class", l.PerClass, maxPerClass)
	bound("--max-edge", l.Edge, maxEdge)
	bound("--max-calls", l.Calls, 1<<20)
	bound("--max-engine", l.Engine, 1<<20)
	if !(l.Guidance >= 1 && l.Guidance <= maxGuidance) {
		errs = append(errs, fmt.Errorf("--max-guidance %g: want 1 to %d", l.Guidance, maxGuidance))
	}
	if l.Waiting < l.Pictures || l.Waiting > 1<<30 {
		errs = append(errs, fmt.Errorf("--max-waiting %d: want at least --max-pictures (%d), or the largest request could never be admitted", l.Waiting, l.Pictures))
	}
	return errors.Join(errs...)
}

// check reports every setting of a decoding that is over a cap, with the cap. decodingOf reports what is beyond the API.
func (l Limits) check(d Decoding) error {
	var c fault.Checks
	c.That(d.Steps <= l.Steps || d.Steps > maxSteps, "rendering.steps", "%d; this server allows at most %d", d.Steps, l.Steps)
	c.That(!(d.Guidance > l.Guidance) || d.Guidance > maxGuidance, "rendering.guidance", "%g; this server allows at most %g", d.Guidance, l.Guidance)
	c.That(len(d.Prompt) <= l.Prompt || len(d.Prompt) > maxPrompt, "rendering.prompt", "%d bytes; this server allows at most %d", len(d.Prompt), l.Prompt)
	for i, t := range append(slices.Clone(d.Templates), d.Negative) {
		c.That(len(t) <= l.Prompt || len(t) > maxPrompt, fmt.Sprintf("rendering.templates[%d] or rendering.negative_prompt", i), "%d bytes; this server allows at most %d", len(t), l.Prompt)
	}
	return c.Err()
}

// fits refuses a model whose pictures are too large. Latents are no larger than pictures, so that an absurd model is
// refused before anything is decoded.
func (l Limits) fits(ctx context.Context, p Pipeline, model string) error {
	s := p.LatentShape()
	height, width := s[1], s[2]
	if max(height, width) <= l.Edge {
		var err error
		if height, width, err = p.PictureSize(ctx); err != nil {
			return err
		}
	}
	if max(height, width) > l.Edge {
		return fault.Invalid("rendering.model", "pictures of %s have %d by %d pixels or more; this server allows at most %d a side", model, height, width, l.Edge)
	}
	return nil
}
