package diffusion

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dreamood/dreamood/internal/stage"
)

// renderBatch renders items together. Where the U-Net is made for one batch
// size, a shorter batch is filled up with its last item.
func (p *Pipeline) renderBatch(ctx context.Context, items []Item, opts Options, progress func()) ([]Image, error) {
	n := len(items)
	if p.unet.fixed() {
		items = slices.Concat(items, slices.Repeat(items[n-1:], p.batch-n))
	}
	guided := opts.Guidance > 1
	encoded := stage.Begin(ctx, "text_encoder")
	states, err := p.encode(ctx, items, guided)
	if err != nil {
		return nil, err
	}
	encoded(int64(n), 0)
	denoised := stage.Begin(ctx, "denoise")
	d, err := p.unet.denoiser(states)
	if err != nil {
		return nil, err
	}
	defer d.close()
	latents, err := p.initialNoise(items)
	if err != nil {
		return nil, err
	}
	calls, err := p.denoise(ctx, d, latents, guided, opts, progress)
	if err != nil {
		return nil, err
	}
	denoised(calls.count, calls.busy)
	size := p.latentSize()
	shape := []int64{int64(n), int64(p.unet.channels), int64(p.unet.height), int64(p.unet.width)}
	decoded := stage.Begin(ctx, "vae")
	images, err := p.vae.decode(ctx, latents[:n*size], shape)
	if err == nil {
		decoded(int64(n), 0)
	}
	return images, err
}

// encode returns the text embeddings of a batch, [B, L, H], or [2B, L, H] with
// those of the negative prompts first. Each distinct one is computed once.
func (p *Pipeline) encode(ctx context.Context, items []Item, guided bool) ([]float32, error) {
	var prompts []Prompt
	if guided {
		for _, item := range items {
			prompts = append(prompts, Prompt{Text: item.Negative})
		}
	}
	for _, item := range items {
		prompts = append(prompts, item.prompt())
	}
	var distinct []Prompt
	index := map[string]int{}
	rows := make([]int, len(prompts))
	for i, prompt := range prompts {
		key := prompt.key()
		row, known := index[key]
		if !known {
			row = len(distinct)
			index[key] = row
			distinct = append(distinct, prompt)
		}
		rows[i] = row
	}
	computed, err := p.text.Encode(ctx, distinct)
	if err != nil {
		return nil, err
	}
	size := len(computed) / len(distinct)
	states := make([]float32, 0, len(prompts)*size)
	for _, row := range rows {
		states = append(states, computed[row*size:(row+1)*size]...)
	}
	return states, nil
}

// initialNoise returns the latents that a batch starts from, [B, C, h, w].
func (p *Pipeline) initialNoise(items []Item) ([]float32, error) {
	size := p.latentSize()
	latents := make([]float32, 0, len(items)*size)
	for _, item := range items {
		noise := p.noise(item, size)
		if len(noise) != size {
			return nil, fmt.Errorf("initial noise of %d numbers, want %d", len(noise), size)
		}
		latents = append(latents, noise...)
	}
	return latents, nil
}

// denoise leads the latents, in place, through all timesteps, with
// classifier-free guidance (Ho and Salimans 2022, equation 6 as Stable
// Diffusion scales it: 1 is no guidance).
func (p *Pipeline) denoise(ctx context.Context, d *denoiser, latents []float32, guided bool, opts Options, progress func()) (calls unetCalls, err error) {
	scheduler, err := NewScheduler(p.scheduler, opts.Scheduler, opts.Steps)
	if err != nil {
		return calls, err
	}
	n, timesteps, done := len(latents), scheduler.Timesteps(), 0
	if opts.From != nil {
		if err := opts.From.restore(scheduler, latents); err != nil {
			return calls, err
		}
		for ; done < opts.From.Done; done++ {
			progress()
		}
	}
	for i := done; i < len(timesteps); i++ {
		t := timesteps[i]
		copy(d.sample.values, latents)
		if guided {
			copy(d.sample.values[n:], latents)
		}
		began := time.Now()
		out, err := d.predict(ctx, t)
		if err != nil {
			return calls, err
		}
		calls.count, calls.busy = calls.count+1, calls.busy+time.Since(began)
		if guided {
			out = guide(out[:n], out[n:], float32(opts.Guidance))
		}
		if opts.previews(i+1, len(timesteps)) {
			if err := p.preview(ctx, opts, i+1, len(timesteps), n/p.latentSize(), float64(t), d.sample.values, out); err != nil {
				return calls, err
			}
		}
		if err := scheduler.Step(out, t, latents); err != nil {
			return calls, err
		}
		progress()
		if opts.Save != nil && i+1 < len(timesteps) {
			opts.Save(checkpointOf(scheduler, i+1, latents))
		}
	}
	return calls, nil
}

// unetCalls are the calls of the U-Net for one batch, and the time in them.
type unetCalls struct {
	count int64
	busy  time.Duration
}

// guide moves the prediction without the prompt towards the one with it by the
// guidance scale; the result is in the memory of the former.
func guide(without, with []float32, scale float32) []float32 {
	for i, u := range without {
		without[i] = u + float32(scale*(with[i]-u))
	}
	return without
}

// newProgress returns what is called after every U-Net call.
func newProgress(opts Options, config SchedulerConfig, batches int) func() {
	if opts.Progress == nil {
		return func() {}
	}
	s, err := NewScheduler(config, opts.Scheduler, opts.Steps)
	if err != nil { // refused by Check before
		return func() {}
	}
	done, total := 0, batches*len(s.Timesteps())
	return func() {
		done++
		opts.Progress(done, total)
	}
}
