package diffusion

import (
	"math"
	"slices"
)

// dpm is the multistep solver of DPM-Solver++ (Lu et al. 2022, algorithm 2;
// order 3 as in appendix B of DPM-Solver) for the clean sample.
type dpm struct {
	plan
	sigmas    []float64 // by step, and what the last one leads to
	order     int
	heun      bool
	lower     bool // the last steps of short schedules have a lower order
	lastEuler bool // so has the last step of any
}

func newDPM(c SchedulerConfig, steps int) (*dpm, error) {
	training := c.trainingSigmas()
	timesteps := c.solverSpacing(training, steps)
	if err := c.inRange(timesteps, steps); err != nil {
		return nil, err
	}
	sigmas := c.respaced(training[0], training[len(training)-1], steps)
	if sigmas == nil {
		for _, t := range timesteps {
			sigmas = append(sigmas, interpolate(t, training))
		}
	} else {
		timesteps = timestepsOf(sigmas, training)
		for i, t := range timesteps {
			if c.UseKarrasSigmas && c.BetaSchedule != "squaredcos_cap_v2" {
				t = math.RoundToEven(t)
			}
			timesteps[i] = math.Trunc(t)
		}
	}
	last := 0.0
	if c.FinalSigmasType == "sigma_min" {
		last = training[0]
	}
	d := &dpm{
		plan:  plan{timesteps: timesteps, initial: 1, prediction: c.PredictionType, bound: c.threshold()},
		order: c.SolverOrder, heun: c.SolverType == "heun", lower: *c.LowerOrderFinal && len(timesteps) < 15,
		lastEuler: c.EulerAtFinal || c.FinalSigmasType == "zero",
	}
	for _, s := range append(sigmas, last) {
		d.sigmas = append(d.sigmas, float64(float32(s)))
	}
	for i := range timesteps {
		d.levels = append(d.levels, atSigma(d.sigmas[i]).unit())
	}
	return d, nil
}

// solverSpacing is spacing as this solver wants it: one more timestep, of which
// the last is not visited, and none where the signal is below lambda_min_clipped.
func (c SchedulerConfig) solverSpacing(training []float64, steps int) []float64 {
	last := c.TrainTimesteps
	if c.LambdaMinClipped.set {
		for last > 0 && -math.Log(training[last-1]) < c.LambdaMinClipped.value {
			last--
		}
	}
	switch c.TimestepSpacing {
	case "linspace":
		out := linspace(0, float64(last-1), steps+1)
		for i, t := range out {
			out[i] = math.RoundToEven(t)
		}
		slices.Reverse(out)
		return out[:steps]
	case "trailing":
		return c.trailing(float64(last), steps)
	}
	return c.leading(last/(steps+1), 1, steps+1)
}

func (d *dpm) Start(step int) (Trajectory, error) { return &dpmTrajectory{d: d, step: step}, nil }

type dpmTrajectory struct {
	d     *dpm
	step  int
	done  int         // steps, as far as they count
	clean [][]float32 // predictions of the last steps, newest first, at most 3
}

func (t *dpmTrajectory) Step(output, sample, _ []float32) error {
	d, step := t.d, t.step
	clean := make([]float32, len(sample))
	d.Clean(step, output, sample, clean)
	t.clean = append([][]float32{clean}, t.clean[:min(len(t.clean), 2)]...)
	order := min(d.order, t.done+1)
	switch left := len(d.timesteps) - 1 - step; {
	case left == 0 && (d.lastEuler || d.lower):
		order = 1
	case left == 1 && d.lower:
		order = min(order, 2)
	}
	keep, weights := d.weights(step, order)
	for i, s := range sample {
		x := keep * float64(s)
		for k, w := range weights {
			x += w * float64(t.clean[k][i])
		}
		sample[i] = float32(x)
	}
	t.step, t.done = step+1, min(t.done+1, d.order)
	return nil
}

// weights of the sample and of the predictions, newest first, in the step of an
// order. λ is the logarithm of the signal-to-noise ratio, and h how far it moves.
func (d *dpm) weights(step, order int) (keep float64, clean []float64) {
	lambda := func(i int) float64 { return -math.Log(d.sigmas[i]) }
	next := atSigma(d.sigmas[step+1]).unit()
	keep = next.noise / d.levels[step].noise
	h := lambda(step+1) - lambda(step)
	if h == 0 { // the last one of Karras et al. is the final one of sigma_min
		return keep, nil
	}
	φ1 := math.Expm1(-h)
	if order == 1 {
		return keep, []float64{-next.signal * φ1}
	}
	// The predictions and their divided differences: D0, D1, D2.
	r0 := (lambda(step) - lambda(step-1)) / h
	φ2, φ3 := φ1/h+1, (φ1+h)/(h*h)-0.5
	if order == 2 {
		d1 := -0.5 * φ1
		if d.heun {
			d1 = φ2
		}
		d1 *= next.signal / r0
		return keep, []float64{-next.signal*φ1 + d1, -d1}
	}
	r1 := (lambda(step-1) - lambda(step-2)) / h
	// With a = (m0-m1)/r0 and c = (m1-m2)/r1:
	// D1 = a + r0/(r0+r1)·(a-c), D2 = (a-c)/(r0+r1).
	forA := next.signal * (φ2*(1+r0/(r0+r1)) - φ3/(r0+r1))
	forC := next.signal * (-φ2*r0/(r0+r1) + φ3/(r0+r1))
	return keep, []float64{-next.signal*φ1 + forA/r0, -forA/r0 + forC/r1, -forC / r1}
}

func (t *dpmTrajectory) history() [][]float32 {
	var out [][]float32
	for _, clean := range t.clean[:min(len(t.clean), t.d.order-1)] {
		out = append(out, slices.Clone(clean))
	}
	return out
}

func (t *dpmTrajectory) recall(history [][]float32, step, n int) bool {
	if len(history) != max(0, min(step-t.step, t.d.order-1)) {
		return false
	}
	t.done, t.step, t.clean = min(step-t.step, t.d.order), step, nil
	for _, h := range history {
		if len(h) != n {
			return false
		}
		t.clean = append(t.clean, slices.Clone(h))
	}
	return true
}
