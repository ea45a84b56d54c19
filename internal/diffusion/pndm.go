package diffusion

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// pndm is the sampler of Liu et al. 2022: a linear multistep method (PLMS)
// that starts with pseudo Runge-Kutta steps or, as in Stable Diffusion, with
// lower orders.
type pndm struct {
	plan
	prk    []int // the first timesteps
	stride int
	alphas []float64
	final  float64
}

func newPNDM(c SchedulerConfig, steps int, rungeKutta bool) (*pndm, error) {
	p := &pndm{plan: plan{initial: 1, prediction: c.PredictionType}, stride: c.TrainTimesteps / steps, alphas: c.alphasCumprod()}
	p.final = p.alphas[0]
	if *c.SetAlphaToOne {
		p.final = 1
	}
	all := c.spacing(steps)
	plms := slices.Clone(all)
	if rungeKutta {
		if len(all) < 4 {
			return nil, fmt.Errorf("%d steps, want at least 4 for the Runge-Kutta start, or plms", steps)
		}
		half := p.stride / 2
		for i, t := range all[:4] {
			if t := int(t); i > 0 {
				p.prk = append(p.prk, t+half, t+half, t)
			}
			if i < 3 {
				p.prk = append(p.prk, int(t))
			}
		}
		plms = all[3:]
	} else if len(all) > 1 {
		// The second timestep is visited twice: the first step is taken by
		// Euler's method and then once more with the mean of both outputs.
		plms = slices.Insert(plms, 1, all[1])
	}
	for _, t := range p.prk {
		p.timesteps = append(p.timesteps, float64(t))
	}
	p.timesteps = append(p.timesteps, plms...)
	if err := c.inRange(p.timesteps, steps); err != nil {
		return nil, err
	}
	for _, t := range p.timesteps {
		p.levels = append(p.levels, atAlpha(p.alphas[int(t)]))
	}
	return p, p.defined()
}

// Start begins a sample. One that begins later than at step 0 takes its first
// two steps as if they were the first two of all, as in diffusers: it is then
// one stride ahead of the timesteps that the model is told.
func (p *pndm) Start(step int) (Trajectory, error) {
	if step > 0 && len(p.prk) > 0 {
		return nil, errors.New("scheduler pndm: its Runge-Kutta start belongs to pure noise: choose plms for pictures that are given")
	}
	return &pndmTrajectory{p: p, first: step}, nil
}

type pndmTrajectory struct {
	p       *pndm
	first   int // step
	counter int // steps done

	kept    []float32   // the sample that a step in several calls starts from
	sum     []float32   // Runge-Kutta: the weighted outputs so far
	outputs [][]float32 // the last four, oldest first
}

func (p *pndmTrajectory) Step(output, sample, _ []float32) error {
	defer func() { p.counter++ }()
	t := int(p.p.timesteps[p.first+p.counter])
	if p.counter < len(p.p.prk) {
		return p.rungeKutta(output, t, sample)
	}
	return p.multistep(output, t, sample)
}

// rungeKutta takes one of the four calls of a step of order four (equation 13
// and algorithm 2).
func (p *pndmTrajectory) rungeKutta(output []float32, t int, sample []float32) error {
	target := t
	if p.counter%2 == 0 {
		target -= p.p.stride / 2
	}
	start := p.p.prk[p.counter/4*4]
	switch p.counter % 4 {
	case 0:
		p.kept = slices.Clone(sample)
		p.sum = make([]float32, len(output))
		p.remember(output)
		accumulate(p.sum, output, 1.0/6)
	case 1, 2:
		accumulate(p.sum, output, 1.0/3)
	case 3:
		accumulate(p.sum, output, 1.0/6)
		output = p.sum
	}
	copy(sample, p.kept)
	return p.p.transfer(output, start, target, sample)
}

func accumulate(sum, v []float32, weight float32) {
	for i := range sum {
		sum[i] += weight * v[i]
	}
}

// multistep takes an Adams-Bashforth step of the order that the outputs so far
// allow, four at most (equation 12).
func (p *pndmTrajectory) multistep(output []float32, t int, sample []float32) error {
	target := t - p.p.stride
	if p.counter != 1 || len(p.p.prk) > 0 {
		p.remember(output)
	} else { // the second visit of the second timestep
		target, t = t, t+p.p.stride
	}
	n := len(p.outputs)
	last := func(back int) []float32 { return p.outputs[n-back] }
	switch {
	case n == 1 && p.counter == 0:
		p.kept = slices.Clone(sample)
	case n == 1:
		output = combine([]float64{0.5, 0.5}, output, last(1))
		copy(sample, p.kept)
	case n == 2:
		output = combine([]float64{3. / 2, -1. / 2}, last(1), last(2))
	case n == 3:
		output = combine([]float64{23. / 12, -16. / 12, 5. / 12}, last(1), last(2), last(3))
	default:
		output = combine([]float64{55. / 24, -59. / 24, 37. / 24, -9. / 24}, last(1), last(2), last(3), last(4))
	}
	return p.p.transfer(output, t, target, sample)
}

func (p *pndmTrajectory) remember(output []float32) {
	p.outputs = append(p.outputs[max(0, len(p.outputs)-3):], slices.Clone(output))
}

func combine(weights []float64, terms ...[]float32) []float32 {
	out := make([]float32, len(terms[0]))
	for i := range out {
		sum := 0.0
		for k, w := range weights {
			sum += w * float64(terms[k][i])
		}
		out[i] = float32(sum)
	}
	return out
}

// transfer moves the sample from timestep t to target (equation 9).
func (p *pndm) transfer(output []float32, t, target int, sample []float32) error {
	if t >= len(p.alphas) {
		return fmt.Errorf("scheduler pndm: timestep %d of %d: use fewer steps", t, len(p.alphas))
	}
	alpha, previous := p.alphas[t], alphaAt(p.alphas, target, p.final)
	rootA, rootB := math.Sqrt(alpha), math.Sqrt(1-alpha)
	scale := math.Sqrt(previous / alpha)
	weight := (previous - alpha) / (alpha*math.Sqrt(1-previous) + math.Sqrt(alpha*(1-alpha)*previous))
	for i, s := range sample {
		x, epsilon := float64(s), float64(output[i])
		if p.prediction == "v_prediction" {
			epsilon = rootA*epsilon + rootB*x
		}
		sample[i] = float32(scale*x - weight*epsilon)
	}
	return nil
}

// history is the sample that a step started from, the weighted outputs so far, and
// the last outputs.
func (p *pndmTrajectory) history() [][]float32 {
	out := [][]float32{slices.Clone(p.kept), slices.Clone(p.sum)}
	for _, o := range p.outputs {
		out = append(out, slices.Clone(o))
	}
	return out
}

func (p *pndmTrajectory) recall(history [][]float32, step, n int) bool {
	if len(history) < 2 || len(history) > 6 {
		return false
	}
	for i, h := range history {
		if len(h) != n && (i >= 2 || len(h) > 0) {
			return false
		}
	}
	copies := make([][]float32, len(history))
	for i, h := range history {
		copies[i] = slices.Clone(h)
	}
	p.counter, p.kept, p.sum, p.outputs = step-p.first, copies[0], copies[1], copies[2:]
	return true
}
