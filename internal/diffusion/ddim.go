package diffusion

import (
	"math"
	"slices"
)

// ddim is the deterministic sampler (η = 0) of Song et al. 2021, equation 12.
type ddim struct {
	timesteps  []int
	stride     int
	alphas     []float64
	final      float64
	prediction string
	clip       float64 // bound of the predicted sample, +Inf for none
}

func newDDIM(c SchedulerConfig, steps int) (*ddim, error) {
	d := &ddim{
		timesteps:  c.spacing(steps),
		stride:     c.TrainTimesteps / steps,
		alphas:     c.alphasCumprod(),
		final:      1,
		prediction: c.PredictionType,
		clip:       math.Inf(1),
	}
	slices.Reverse(d.timesteps)
	if c.SetAlphaToOne != nil && !*c.SetAlphaToOne {
		d.final = d.alphas[0]
	}
	if c.ClipSample == nil || *c.ClipSample {
		d.clip = c.ClipSampleRange
	}
	return d, nil
}

func (d *ddim) Timesteps() []int { return slices.Clone(d.timesteps) }

func (d *ddim) Step(output []float32, t int, sample []float32) error {
	alpha := d.alphas[t]
	previous := alphaAt(d.alphas, t-d.stride, d.final)
	rootA, rootB := math.Sqrt(alpha), math.Sqrt(1-alpha)
	rootPrevA, rootPrevB := math.Sqrt(previous), math.Sqrt(1-previous)
	for i, s := range sample {
		x, out := float64(s), float64(output[i])
		var original, epsilon float64
		switch d.prediction {
		case "epsilon":
			original, epsilon = (x-rootB*out)/rootA, out
		case "sample":
			original, epsilon = out, (x-rootA*out)/rootB
		default: // v_prediction: Salimans and Ho 2022, appendix D
			original, epsilon = rootA*x-rootB*out, rootA*out+rootB*x
		}
		original = max(-d.clip, min(d.clip, original))
		sample[i] = float32(rootPrevA*original + rootPrevB*epsilon)
	}
	return nil
}
