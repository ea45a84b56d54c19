package diffusion

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/stage"
)

// renderBatch renders items together, from step first on.
func (p *Pipeline) renderBatch(ctx context.Context, items []Item, opts Options, plan Scheduler, first int, progress func()) ([]Image, error) {
	n := len(items)
	guided := guidedItems(items, opts)
	encoded := stage.Begin(ctx, "text_encoder")
	states, err := p.encode(ctx, items, guided)
	if err != nil {
		return nil, err
	}
	encoded(int64(n), 0)
	denoised := stage.Begin(ctx, "denoise")
	latents, err := p.initialLatents(ctx, items, opts, plan, first)
	if err != nil {
		return nil, err
	}
	var calls unetCalls
	if l, ok := p.inLoop(items, guided, plan, opts); ok {
		calls, err = p.denoiseInLoop(ctx, items, latents, states, l, plan, opts, progress)
	} else {
		calls, err = p.denoiseInSteps(ctx, &batch{p: p, plan: plan, first: first, items: items, guided: guided, latents: latents}, states, opts, progress)
	}
	if err != nil {
		return nil, err
	}
	denoised(calls.count, calls.busy)
	size := p.latentSize()
	shape := p.batchShape(n)
	decoded := stage.Begin(ctx, "vae")
	images, err := p.vae.decode(ctx, latents[:n*size], shape)
	if err == nil {
		decoded(int64(n), 0)
	}
	return images, err
}

// guidedItems are the indices of the items that are computed without their
// prompt too.
func guidedItems(items []Item, opts Options) []int {
	var guided []int
	for i, item := range items {
		if item.guidance(opts) > 1 {
			guided = append(guided, i)
		}
	}
	return guided
}

func (i Item) guidance(opts Options) float64 { return cmp.Or(i.Guidance, opts.Guidance) }

// encode returns the text embeddings of a batch, [G+B, L, H]: first those of
// the negative prompts of the guided items. Each distinct one is computed
// once, for all requests.
func (p *Pipeline) encode(ctx context.Context, items []Item, guided []int) ([]float32, error) {
	var prompts []Prompt
	for _, i := range guided {
		prompts = append(prompts, Prompt{Text: items[i].Negative})
	}
	for _, item := range items {
		prompts = append(prompts, item.prompt())
	}
	return p.texts.encode(ctx, prompts, p.text.Encode)
}

// initialLatents returns what a batch starts from, [B, C, h, w].
func (p *Pipeline) initialLatents(ctx context.Context, items []Item, opts Options, plan Scheduler, first int) ([]float32, error) {
	if opts.Strength > 0 {
		return p.givenLatents(ctx, items, plan, first)
	}
	latents := make([]float32, 0, len(items)*p.latentSize())
	for _, item := range items {
		noise, err := p.initialNoise(item)
		if err != nil {
			return nil, err
		}
		latents = append(latents, noise...)
	}
	sigma := plan.InitialSigma()
	for i, x := range latents {
		latents[i] = float32(sigma * float64(x))
	}
	return latents, nil
}

func (p *Pipeline) initialNoise(item Item) ([]float32, error) {
	if item.Latents != nil {
		return item.Latents, nil
	}
	key := item.Key
	key.Purpose = cmp.Or(key.Purpose, NoisePurpose)
	return p.draw(key)
}

func (p *Pipeline) draw(key philox.Key) ([]float32, error) {
	noise := p.noise(key, p.latentSize())
	if len(noise) != p.latentSize() {
		return nil, fmt.Errorf("noise of %d numbers, want %d", len(noise), p.latentSize())
	}
	return noise, nil
}

// batch is what is denoised together.
type batch struct {
	p       *Pipeline
	d       *denoiser
	plan    Scheduler
	first   int // step to begin with
	items   []Item
	guided  []int     // items whose first rows in d are without their prompt
	latents []float32 // [B, C, h, w]
}

// row is that of an item in values [B, C, h, w].
func (b *batch) row(values []float32, i int) []float32 {
	n := b.p.latentSize()
	return values[i*n : (i+1)*n]
}

// predict computes the model's outputs for a step, [B, C, h, w], with
// classifier-free guidance (Ho and Salimans 2022, equation 6 as Stable
// Diffusion scales it: 1 is no guidance).
func (b *batch) predict(ctx context.Context, step int, t float64, opts Options) ([]float32, error) {
	g := len(b.guided)
	for r, i := range b.guided {
		b.plan.Input(step, b.row(b.latents, i), b.row(b.d.sample, r))
	}
	for i := range b.items {
		b.plan.Input(step, b.row(b.latents, i), b.row(b.d.sample, g+i))
	}
	out, err := b.d.predict(ctx, t)
	if err != nil {
		return nil, err
	}
	for r, i := range b.guided {
		if scale := b.items[i].guidance(opts); scale > 1 {
			guide(b.row(out, r), b.row(out, g+i), float32(scale))
		}
	}
	return out[g*b.p.latentSize():], nil
}

// expected are the latents that the outputs of a step lead to, [B, C, h, w].
func (b *batch) expected(step int, out []float32) []float32 {
	clean := make([]float32, len(b.latents))
	for i := range b.items {
		b.plan.Clean(step, b.row(out, i), b.row(b.latents, i), b.row(clean, i))
	}
	return clean
}

// advance moves every sample by a step.
func (b *batch) advance(samples []Trajectory, step int, out []float32) error {
	for i, s := range samples {
		var noise []float32
		if b.plan.Noisy(step) {
			key := b.items[i].Key
			key.Purpose, key.Step = StepPurpose, uint32(step)
			var err error
			if noise, err = b.p.draw(key); err != nil {
				return err
			}
		}
		if err := s.Step(b.row(out, i), b.row(b.latents, i), noise); err != nil {
			return err
		}
	}
	return nil
}

// denoiseInSteps is denoise with a denoiser for the text embeddings.
func (p *Pipeline) denoiseInSteps(ctx context.Context, b *batch, states []float32, opts Options, progress func()) (unetCalls, error) {
	b.d = p.unet.denoiser(states)
	defer b.d.close()
	return p.denoise(ctx, b, opts, progress)
}

// denoise leads the latents, in place, through all timesteps.
func (p *Pipeline) denoise(ctx context.Context, b *batch, opts Options, progress func()) (calls unetCalls, err error) {
	first := b.first
	samples := make([]Trajectory, len(b.items))
	for i := range samples {
		if samples[i], err = b.plan.Start(first); err != nil {
			return calls, err
		}
	}
	timesteps, done := b.plan.Timesteps(), first
	if opts.From != nil {
		if err := opts.From.restore(samples, first, len(timesteps), b.latents); err != nil {
			return calls, err
		}
		for ; done < first+opts.From.Done; done++ {
			progress()
		}
	} else if opts.Latents != nil {
		opts.Latents(opts.first, 0, b.latents)
	}
	for step := done; step < len(timesteps); step++ {
		began := time.Now()
		out, err := b.predict(ctx, step, timesteps[step], opts)
		if err != nil {
			return calls, err
		}
		calls.count, calls.busy = calls.count+1, calls.busy+time.Since(began)
		if calls := step + 1 - first; opts.previews(calls, len(timesteps)-first) {
			if err := p.preview(ctx, opts, calls, len(timesteps)-first, b.expected(step, out)); err != nil {
				return unetCalls{}, err
			}
		}
		if err := b.advance(samples, step, out); err != nil {
			return calls, err
		}
		progress()
		if opts.Latents != nil {
			opts.Latents(opts.first, step+1-first, b.latents)
		}
		if opts.Save != nil && step+1 < len(timesteps) {
			opts.Save(checkpointOf(samples, step+1-first, b.latents))
		}
	}
	return calls, nil
}

// unetCalls are the calls of the U-Net for one batch, and the time in them.
type unetCalls struct {
	count int64
	busy  time.Duration
}

// guide moves the prediction with the prompt, in place, away from the one
// without it.
func guide(without, with []float32, scale float32) {
	for i, u := range without {
		with[i] = u + float32(scale*(with[i]-u))
	}
}

// newProgress returns what is called after every U-Net call.
func newProgress(opts Options, total int) func() {
	done := 0
	return func() {
		if done++; opts.Progress != nil {
			opts.Progress(done, total)
		}
	}
}
