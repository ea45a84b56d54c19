package diffusion

import (
	"errors"
	"math"
	"slices"
)

// level is the noise in a sample: sample = signal·clean + noise·ε.
type level struct{ signal, noise float64 }

// atAlpha is the level of a sample of variance 1 whose clean part has the
// share ᾱ.
func atAlpha(alpha float64) level { return level{math.Sqrt(alpha), math.Sqrt(1 - alpha)} }

// atSigma is the level of a sample whose clean part is not scaled.
func atSigma(sigma float64) level { return level{1, sigma} }

// scale is what brings a sample of this level to variance 1.
func (l level) scale() float64 { return 1 / math.Hypot(l.signal, l.noise) }

// unit is this level at variance 1.
func (l level) unit() level { return level{l.signal * l.scale(), l.noise * l.scale()} }

// plan is what all schedulers have in common.
type plan struct {
	timesteps  []float64
	levels     []level // of the sample, by step
	scaled     bool    // the model sees samples at variance 1, which they have not
	initial    float64
	prediction string
	bound      bound
}

func (p *plan) Timesteps() []float64  { return slices.Clone(p.timesteps) }
func (p *plan) InitialSigma() float64 { return p.initial }
func (p *plan) Noisy(int) bool        { return false }

func (p *plan) Input(step int, sample, input []float32) {
	if !p.scaled {
		copy(input, sample)
		return
	}
	scale := p.levels[step].scale()
	for i, x := range sample {
		input[i] = float32(scale * float64(x))
	}
}

func (p *plan) AddNoise(step int, sample, noise []float32) {
	l := p.levels[step]
	for i, x := range sample {
		sample[i] = float32(l.signal*float64(x) + l.noise*float64(noise[i]))
	}
}

func (p *plan) Clean(step int, output, sample, clean []float32) {
	for i, x := range p.clean(nil, step, output, sample) {
		clean[i] = float32(x)
	}
}

// clean predicts the sample without its noise, in the memory of dst if it is
// large enough.
func (p *plan) clean(dst []float64, step int, output, sample []float32) []float64 {
	dst = slices.Grow(dst[:0], len(sample))[:len(sample)]
	l := p.levels[step]
	switch p.prediction {
	case "epsilon":
		for i, x := range sample {
			dst[i] = (float64(x) - l.noise*float64(output[i])) / l.signal
		}
	case "sample":
		for i := range sample {
			dst[i] = float64(output[i])
		}
	default: // v_prediction: Salimans and Ho 2022, appendix D
		u, scale := l.unit(), l.scale()
		for i, x := range sample {
			dst[i] = u.signal*scale*float64(x) - u.noise*float64(output[i])
		}
	}
	p.bound.apply(dst)
	return dst
}

// defined is an error where the level of a step tells nothing of the clean
// sample: zero-terminal SNR asks for a model that predicts v or the sample.
func (p *plan) defined() error {
	for _, l := range p.levels {
		if l.signal == 0 && p.prediction == "epsilon" {
			return errors.New(`rescale_betas_zero_snr with prediction_type "epsilon": pure noise tells nothing of the sample; choose another timestep_spacing, or a scheduler of the euler or dpmpp family`)
		}
	}
	return nil
}

// bound keeps predicted samples small. The zero value does not.
type bound struct {
	clip      float64 // bound of every number, 0 for none
	clipped   bool
	threshold bool // dynamic thresholding: Saharia et al. 2022, section 2.3
	ratio     float64
	largest   float64
}

func (c SchedulerConfig) threshold() bound {
	return bound{threshold: c.Thresholding, ratio: *c.ThresholdingRatio, largest: *c.SampleMaxValue}
}

func (c SchedulerConfig) bound() bound {
	b := c.threshold()
	b.clipped, b.clip = *c.ClipSample && !b.threshold, *c.ClipSampleRange
	return b
}

// apply bounds one sample in place.
func (b bound) apply(sample []float64) {
	switch {
	case b.threshold:
		s := min(max(b.quantile(sample), 1), b.largest)
		for i, x := range sample {
			sample[i] = min(max(x, -s), s) / s
		}
	case b.clipped:
		for i, x := range sample {
			sample[i] = min(max(x, -b.clip), b.clip)
		}
	}
}

// quantile of the magnitudes, between two of them by linear interpolation.
func (b bound) quantile(sample []float64) float64 {
	sizes := make([]float64, len(sample))
	for i, x := range sample {
		sizes[i] = math.Abs(x)
	}
	slices.Sort(sizes)
	return interpolate(b.ratio*float64(len(sizes)-1), sizes)
}
