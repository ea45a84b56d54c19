// Package diffusion renders pictures with Stable Diffusion models in the stock
// Diffusers layout, exported to ONNX. Its text encoder takes overrides of token
// embeddings as an input, so that pictures of sampled embeddings are rendered
// in batches (Du et al., "Dream the Impossible", 2023, section 3.2).
package diffusion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
)

// Config says how a pipeline runs. The zero value runs on the CPU.
type Config struct {
	// ONNX says how the U-Net and the VAE decoder run. With OpenVINO the text
	// encoder and the VAE decoder, which take little time, stay on the CPU
	// provider in full precision.
	ONNX onnx.Config
	// Lanes is the number of U-Net runs at once, which share the threads; 0
	// chooses. Untouched runs the U-Net's graph as it was stored. Profiles, if
	// not "", is a file of measured lanes and batches for where they are 0. See
	// decision 0024.
	Lanes     int
	Untouched bool
	Profiles  string
	// Batch is the number of pictures that are rendered together; 0 chooses by
	// the size of the latents.
	Batch int
	// Loop has the graph do all steps of a full batch in few runs, where the
	// schedule allows it; see loopGraph. There are no check-points of single
	// steps then. For GPUs: the weights are loaded once more for batches with
	// guidance and once for those without, and the pictures differ by rounding.
	Loop bool
	// Noise draws n numbers from a standard normal distribution, for an item:
	// key is that of the item, with NoisePurpose for the initial noise, and with
	// StepPurpose and the step for what a scheduler adds. They must depend on
	// nothing but the key. nil draws them with Philox.
	Noise func(key philox.Key, n int) []float32
}

// Item is a picture to render.
type Item struct {
	// Prompt, Token and Embedding are the text and its override; see Prompt.
	Prompt    string
	Token     string
	Embedding []float32
	// Negative is the prompt that guidance leads away from.
	Negative string
	// Guidance is the guidance scale of this item; 0 = Options.Guidance.
	Guidance float64
	// Key names the stream that the initial noise is drawn from; an empty
	// Purpose stands for NoisePurpose.
	Key philox.Key
	// Latents, if set, are the initial noise, [C, h, w], in place of drawn one.
	Latents []float32
	// Init, with Options.Strength, is the picture to begin with: 8-bit RGB,
	// [H, W, 3], of the size of the model's pictures.
	Init []uint8
}

// The purposes of the streams of noise: the initial one, and that of steps.
const (
	NoisePurpose = "diffusion.noise"
	StepPurpose  = "diffusion.step"
)

// Options say how items are rendered.
type Options struct {
	Steps     int     // 0 = 50
	Guidance  float64 // guidance scale, 0 = 7.5; up to 1 the prompt alone is used
	Scheduler string  // one of Schedulers; "" is the model's own
	Eta       float64 // η of DDIM, 0 to 1
	// Strength is the share of the schedule that given pictures are led
	// through, above 0 to 1: the larger, the less of them is left. 0 where the
	// items have none.
	Strength float64
	// Reconstruct passes the items' pictures, Init, through the VAE, encoded and
	// decoded, and does nothing else.
	Reconstruct bool
	// Progress, if set, is told after every U-Net call how many of all calls
	// are done.
	Progress func(done, total int)
	// Preview, if set, is handed what a batch is expected to become after every
	// PreviewEvery calls of the U-Net but the last. The batch waits for it.
	Preview       func(Preview)
	PreviewEvery  int
	PreviewMethod PreviewMethod
	// From, if set, is where the first batch goes on: a checkpoint of the same
	// items, options and model. One of another shape is an error.
	From *Checkpoint
	// Latents, if set, is handed the latents of a batch, [B, C, h, w], before
	// the first step (step 0) and after every one (1, 2, …). first is the index
	// of the batch's first item. It must not keep or change them.
	Latents func(first, step int, latents []float32)
	// Save, if set, is handed a checkpoint of the batch under way after every
	// U-Net call but the last. It is Save's own.
	Save func(Checkpoint)

	first int // index of the batch's first item
}

// The defaults of Options: those of Stable Diffusion and of Dream-OOD.
const (
	DefaultSteps    = 50
	DefaultGuidance = 7.5
)

// Pipeline is a loaded model. It is safe for concurrent use.
type Pipeline struct {
	dir       string
	batch     int
	plain     onnx.Config // of all but the U-Net
	noise     func(philox.Key, int) []float32
	text      *TextEncoder
	texts     *textCache
	unet      *unet
	vae       *vae
	scheduler SchedulerConfig
	digests   func() (digests, error)

	sizeOnce      sync.Mutex // of PictureSize
	height, width int
	colours       colours // of previews
	looped        bool    // Config.Loop
	loops         loops
	encoders      encoders
}

// Open loads the model in dir: model_index.json, tokenizer/, text_encoder/,
// unet/, vae_decoder/ and scheduler/. Models are not trusted: files that are
// missing, data outside the folder and absurd shapes are errors that name the
// file, before ONNX Runtime sees any of it.
func Open(dir string, cfg Config) (*Pipeline, error) {
	p, err := open(dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("open diffusion model %s: %w", dir, err)
	}
	return p, nil
}

func open(dir string, cfg Config) (*Pipeline, error) {
	if cfg.Batch < 0 || cfg.Lanes < 0 {
		return nil, fmt.Errorf("batch %d, lanes %d: want 0 (chosen) or more", cfg.Batch, cfg.Lanes)
	}
	cfg, err := cfg.tuned(dir)
	if err != nil {
		return nil, err
	}
	if cfg.Lanes == 0 {
		cfg.Lanes = cfg.defaultLanes()
	}
	if _, err := vet(dir); err != nil {
		return nil, err
	}
	p := &Pipeline{dir: dir, looped: cfg.Loop, batch: cfg.Batch, noise: cfg.Noise, texts: newTextCache(textCacheBytes)}
	p.digests = sync.OnceValues(func() (digests, error) { return digest(dir) })
	if p.noise == nil {
		p.noise = drawNoise
	}
	if p.scheduler, err = ReadSchedulerConfig(filepath.Join(dir, "scheduler", "scheduler_config.json")); err != nil {
		return nil, err
	}
	plain := cfg.ONNX
	if plain.Provider == "openvino" {
		plain = onnx.Config{Threads: cfg.ONNX.Threads}
	}
	p.plain = plain
	if p.text, err = openTextEncoder(dir, plain); err != nil {
		return nil, err
	}
	if p.unet, err = openUNet(dir, cfg, p.text.tokenizer.length, p.text.width); err != nil {
		p.Close()
		return nil, err
	}
	if p.vae, err = openVAE(dir, plain, p.unet.channels); err != nil {
		p.Close()
		return nil, err
	}
	if p.batch == 0 {
		p.batch = max(1, min(32, 65536/p.latentSize()))
	}
	p.unet.start(p.batch)
	return p, nil
}

func drawNoise(key philox.Key, n int) []float32 {
	noise := make([]float32, n)
	philox.Normals(noise, key)
	return noise
}

// Close frees the model. It waits for the U-Net calls under way.
func (p *Pipeline) Close() error {
	var errs []error
	if p.text != nil {
		errs = append(errs, p.text.Close())
	}
	if p.unet != nil {
		errs = append(errs, p.unet.close())
	}
	if p.vae != nil {
		errs = append(errs, p.vae.session.Close())
	}
	errs = append(errs, p.loops.close())
	errs = append(errs, p.encoders.close())
	return errors.Join(errs...)
}

// TextEncoder returns the pipeline's text encoder, which holds the table of
// token embeddings. It is closed with the pipeline.
func (p *Pipeline) TextEncoder() *TextEncoder { return p.text }

// Batch returns the number of pictures that are rendered together.
func (p *Pipeline) Batch() int { return p.batch }

// LatentShape returns the shape [C, h, w] of a picture's latents, which is
// that of its initial noise.
func (p *Pipeline) LatentShape() [3]int {
	return [3]int{p.unet.channels, p.unet.height, p.unet.width}
}

func (p *Pipeline) latentSize() int { return p.unet.channels * p.unet.height * p.unet.width }

// Scheduler returns the model's own scheduler configuration.
func (p *Pipeline) Scheduler() SchedulerConfig { return p.scheduler }

// Digest returns the SHA-256 of the model's files in hexadecimal, for
// manifests. The first call reads them all.
func (p *Pipeline) Digest() (string, error) {
	d, err := p.digests()
	return d.whole, err
}

// PartDigests returns the SHA-256 of the files of each part of the model, by
// the name of its folder.
func (p *Pipeline) PartDigests() (map[string]string, error) {
	d, err := p.digests()
	return maps.Clone(d.parts), err
}

// Check reports every item that Render would refuse, and options that are out
// of range.
func (p *Pipeline) Check(items []Item, opts Options) error {
	if opts.Reconstruct {
		return checkReconstruct(items)
	}
	plan, err := p.Plan(opts)
	errs := []error{err, checkGuidance(opts.Guidance)}
	if err == nil {
		_, err = opts.firstStep(plan)
		errs = append(errs, err)
	}
	for i, item := range items {
		if err := checkGuidance(item.Guidance); err != nil {
			errs = append(errs, fmt.Errorf("item %d: %w", i, err))
		}
		errs = append(errs, opts.checkInit(i, item))
		if n := len(item.Latents); n != 0 && n != p.latentSize() {
			errs = append(errs, fmt.Errorf("item %d: latents of %d numbers, want %d for the shape %v", i, n, p.latentSize(), p.LatentShape()))
		}
		if err := p.text.Check(item.prompt()); err != nil {
			errs = append(errs, fmt.Errorf("item %d: %w", i, err))
		}
		if err := p.text.Check(Prompt{Text: item.Negative}); err != nil {
			errs = append(errs, fmt.Errorf("item %d: negative prompt: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func checkGuidance(g float64) error {
	if !(g >= 0 && g <= 1000) {
		return fmt.Errorf("guidance %v: want 0 (default) to 1000", g)
	}
	return nil
}

// Plan makes the scheduler of a rendering.
func (p *Pipeline) Plan(opts Options) (Scheduler, error) {
	return NewScheduler(p.scheduler, Schedule{Name: opts.Scheduler, Steps: opts.withDefaults().Steps, Eta: opts.Eta})
}

// Calls is the number of calls of the U-Net for a batch.
func (p *Pipeline) Calls(opts Options) (int, error) {
	plan, err := p.Plan(opts)
	if err != nil {
		return 0, err
	}
	first, err := opts.firstStep(plan)
	return len(plan.Timesteps()) - first, err
}

func (o Options) withDefaults() Options {
	if o.Steps == 0 {
		o.Steps = DefaultSteps
	}
	if o.Guidance == 0 {
		o.Guidance = DefaultGuidance
	}
	return o
}

func (i Item) prompt() Prompt {
	return Prompt{Text: i.Prompt, Token: i.Token, Embedding: i.Embedding}
}

// Render makes a picture of every item, in their order. Cancelling ctx ends it
// within one call of the U-Net.
func (p *Pipeline) Render(ctx context.Context, items []Item, opts Options) ([]Image, error) {
	if err := p.Check(items, opts); err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	if opts.Reconstruct {
		images, err := p.reconstruct(ctx, items)
		if err != nil {
			return nil, fmt.Errorf("reconstruct: %w", err)
		}
		return images, nil
	}
	opts = opts.withDefaults()
	images := make([]Image, 0, len(items))
	plan, err := p.Plan(opts)
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	first, err := opts.firstStep(plan)
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	progress := newProgress(opts, (len(plan.Timesteps())-first)*((len(items)+p.batch-1)/p.batch))
	for batch := range slices.Chunk(items, p.batch) {
		done, err := p.renderBatch(ctx, batch, opts, plan, first, progress)
		opts.From = nil
		opts.first += len(batch)
		if err != nil {
			return nil, fmt.Errorf("render: %w", err)
		}
		images = append(images, done...)
	}
	return images, nil
}
