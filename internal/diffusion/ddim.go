package diffusion

import "math"

// ddim is the sampler of Song et al. 2021, equation 12, with the noise of its
// equation 16.
type ddim struct {
	plan
	next   []float64 // ᾱ that each step leads to
	alphas []float64 // ᾱ that it comes from
	eta    float64
}

func newDDIM(c SchedulerConfig, steps int, eta float64) (*ddim, error) {
	d := &ddim{plan: plan{timesteps: c.spacing(steps), initial: 1, prediction: c.PredictionType, bound: c.bound()}, eta: eta}
	stride := c.TrainTimesteps / steps
	alphas := c.alphasCumprod()
	final := 1.0
	if !*c.SetAlphaToOne {
		final = alphas[0]
	}
	if err := c.inRange(d.timesteps, steps); err != nil {
		return nil, err
	}
	for _, t := range d.timesteps {
		d.alphas = append(d.alphas, alphas[int(t)])
		d.next = append(d.next, alphaAt(alphas, int(t)-stride, final))
		d.levels = append(d.levels, atAlpha(alphas[int(t)]))
	}
	return d, d.defined()
}

// alphaAt returns ᾱ of a timestep; before the first one it is final.
func alphaAt(alphas []float64, t int, final float64) float64 {
	if t < 0 {
		return final
	}
	return alphas[t]
}

func (d *ddim) Noisy(int) bool { return d.eta > 0 }

func (d *ddim) Start(step int) (Trajectory, error) {
	return &ddimTrajectory{d: d, memoryless: memoryless{step}}, nil
}

type ddimTrajectory struct {
	d *ddim
	memoryless
	clean []float64
}

func (t *ddimTrajectory) Step(output, sample, noise []float32) error {
	d, step := t.d, t.step
	t.step++
	t.clean = d.clean(t.clean, step, output, sample)
	alpha, next := d.alphas[step], d.next[step]
	rootA, rootB := math.Sqrt(alpha), math.Sqrt(1-alpha)
	deviation := 0.0
	if d.eta > 0 {
		deviation = d.eta * math.Sqrt(max(0, (1-next)/(1-alpha)*(1-alpha/next)))
	}
	rootNext, direction := math.Sqrt(next), math.Sqrt(max(0, 1-next-deviation*deviation))
	for i, s := range sample {
		x, out := float64(s), float64(output[i])
		epsilon := out
		switch d.prediction {
		case "sample":
			epsilon = (x - rootA*out) / rootB
		case "v_prediction":
			epsilon = rootA*out + rootB*x
		}
		x = rootNext*t.clean[i] + direction*epsilon
		if deviation > 0 {
			x += deviation * float64(noise[i])
		}
		sample[i] = float32(x)
	}
	return nil
}

// memoryless is the part of a trajectory that keeps nothing but its step.
type memoryless struct{ step int }

func (m *memoryless) history() [][]float32 { return nil }

func (m *memoryless) recall(history [][]float32, step, _ int) bool {
	m.step = step
	return len(history) == 0
}
