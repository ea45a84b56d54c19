package diffusion

import (
	"fmt"
	"math"
)

// lcm is the multistep sampler of latent consistency models (Luo et al. 2023,
// algorithm 3): a prediction of the clean sample, made noisy again.
type lcm struct {
	plan
	skip, out []float64 // c_skip and c_out of every step (section 4.1)
}

func newLCM(c SchedulerConfig, steps int) (*lcm, error) {
	if steps > c.OriginalSteps {
		return nil, fmt.Errorf("%d steps, want at most %d, its original_inference_steps", steps, c.OriginalSteps)
	}
	l := &lcm{plan: plan{initial: 1, prediction: c.PredictionType, bound: c.bound()}}
	alphas := c.alphasCumprod()
	stride := c.TrainTimesteps / c.OriginalSteps
	for i := range steps {
		at := int(math.Floor(float64(i) * (float64(c.OriginalSteps) / float64(steps))))
		t := (c.OriginalSteps-at)*stride - 1
		l.timesteps = append(l.timesteps, float64(t))
		l.levels = append(l.levels, atAlpha(alphas[t]))
		const data = 0.5 // σ of the data
		scaled := float64(t) * *c.TimestepScaling
		l.skip = append(l.skip, data*data/(scaled*scaled+data*data))
		l.out = append(l.out, scaled/math.Sqrt(scaled*scaled+data*data))
	}
	return l, l.defined()
}

func (l *lcm) Noisy(step int) bool { return step < len(l.timesteps)-1 }

func (l *lcm) Start(step int) (Trajectory, error) {
	return &lcmTrajectory{l: l, memoryless: memoryless{step}}, nil
}

type lcmTrajectory struct {
	l *lcm
	memoryless
	clean []float64
}

func (t *lcmTrajectory) Step(output, sample, noise []float32) error {
	l, step := t.l, t.step
	t.step++
	t.clean = l.clean(t.clean, step, output, sample)
	noisy := l.Noisy(step)
	for i, s := range sample {
		x := l.out[step]*t.clean[i] + l.skip[step]*float64(s)
		if noisy {
			next := l.levels[step+1]
			x = next.signal*x + next.noise*float64(noise[i])
		}
		sample[i] = float32(x)
	}
	return nil
}
