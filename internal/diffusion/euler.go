package diffusion

import (
	"math"
	"slices"
)

// euler is Euler's method for the probability flow in the variables of Karras
// et al. 2022 (algorithm 1): samples are clean + σ·ε. The ancestral one steps
// to less noise than wanted and adds the rest anew.
type euler struct {
	plan
	sigmas    []float64 // by step, and what the last one leads to
	ancestral bool
}

func newEuler(c SchedulerConfig, steps int, ancestral bool) (*euler, error) {
	training := c.trainingSigmas()
	timesteps := c.spacing(steps)
	if c.TimestepSpacing == "linspace" { // here not rounded
		timesteps = linspace(0, float64(c.TrainTimesteps-1), steps)
		slices.Reverse(timesteps)
	}
	for i, t := range timesteps {
		timesteps[i] = float64(float32(t))
	}
	if err := c.inRange(timesteps, steps); err != nil {
		return nil, err
	}
	var sigmas []float64
	if ancestral || c.InterpolationType == "linear" {
		for _, t := range timesteps {
			sigmas = append(sigmas, interpolate(t, training))
		}
	} else { // one more than there are steps: the last is not visited, only led to
		for _, log := range linspace(math.Log(training[len(training)-1]), math.Log(training[0]), steps+1) {
			sigmas = append(sigmas, math.Exp(float64(float32(log))))
		}
	}
	last := 0.0
	if !ancestral {
		if respaced := c.respaced(sigmas[len(sigmas)-1], sigmas[0], steps); respaced != nil {
			sigmas, timesteps = respaced, timestepsOf(respaced, training)
		}
		if c.FinalSigmasType == "sigma_min" {
			last = training[0]
		}
	}
	e := &euler{plan: plan{timesteps: timesteps, scaled: true, prediction: c.PredictionType}, ancestral: ancestral}
	for _, s := range append(sigmas, last) {
		e.sigmas = append(e.sigmas, float64(float32(s)))
	}
	for i, t := range timesteps {
		e.timesteps[i] = float64(float32(t))
		e.levels = append(e.levels, atSigma(e.sigmas[i]))
	}
	e.initial = slices.Max(e.sigmas)
	if c.TimestepSpacing == "leading" {
		e.initial = math.Hypot(e.initial, 1)
	}
	return e, nil
}

// ancestors splits the noise level that a step leads to into what is left and
// what is added: left² + added² = next².
func (e *euler) ancestors(step int) (left, added float64) {
	from, to := e.sigmas[step], e.sigmas[step+1]
	if !e.ancestral {
		return to, 0
	}
	added = math.Sqrt(to * to * (from*from - to*to) / (from * from))
	return math.Sqrt(to*to - added*added), added
}

func (e *euler) Noisy(step int) bool {
	_, added := e.ancestors(step)
	return added > 0
}

func (e *euler) Start(step int) (Trajectory, error) {
	return &eulerTrajectory{e: e, memoryless: memoryless{step}}, nil
}

type eulerTrajectory struct {
	e *euler
	memoryless
	clean []float64
}

func (t *eulerTrajectory) Step(output, sample, noise []float32) error {
	e, step := t.e, t.step
	t.step++
	t.clean = e.clean(t.clean, step, output, sample)
	sigma := e.sigmas[step]
	left, added := e.ancestors(step)
	for i, s := range sample {
		x := float64(s)
		x += (x - t.clean[i]) / sigma * (left - sigma)
		if added > 0 {
			x += added * float64(noise[i])
		}
		sample[i] = float32(x)
	}
	return nil
}
