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
	prk, plms  []int
	stride     int
	alphas     []float64
	final      float64
	prediction string

	counter int
	kept    []float32   // the sample that a step in several calls starts from
	sum     []float32   // Runge-Kutta: the weighted outputs so far
	outputs [][]float32 // the last four, oldest first
}

func newPNDM(c SchedulerConfig, steps int, rungeKutta bool) (*pndm, error) {
	if c.PredictionType == "sample" {
		return nil, errors.New(`prediction_type "sample" is not defined: choose ddim`)
	}
	p := &pndm{stride: c.TrainTimesteps / steps, alphas: c.alphasCumprod(), prediction: c.PredictionType}
	p.final = p.alphas[0]
	if c.SetAlphaToOne != nil && *c.SetAlphaToOne {
		p.final = 1
	}
	all := c.spacing(steps)
	slices.Reverse(all) // descending
	if !rungeKutta {
		// The second timestep is visited twice: the first step is taken by
		// Euler's method and then once more with the mean of both outputs.
		p.plms = slices.Clone(all)
		if len(all) > 1 {
			p.plms = slices.Insert(p.plms, 1, all[1])
		}
		return p, nil
	}
	if len(all) < 4 {
		return nil, fmt.Errorf("%d steps, want at least 4 for the Runge-Kutta start, or plms", steps)
	}
	half := p.stride / 2
	for i, t := range all[:4] {
		if i > 0 {
			p.prk = append(p.prk, t+half, t+half, t)
		}
		if i < 3 {
			p.prk = append(p.prk, t)
		}
	}
	p.plms = all[3:]
	return p, nil
}

func (p *pndm) Timesteps() []int { return slices.Concat(p.prk, p.plms) }

func (p *pndm) Step(output []float32, t int, sample []float32) error {
	defer func() { p.counter++ }()
	if p.counter < len(p.prk) {
		return p.rungeKutta(output, t, sample)
	}
	return p.multistep(output, t, sample)
}

// rungeKutta takes one of the four calls of a step of order four (equation 13
// and algorithm 2).
func (p *pndm) rungeKutta(output []float32, t int, sample []float32) error {
	target := t
	if p.counter%2 == 0 {
		target -= p.stride / 2
	}
	start := p.prk[p.counter/4*4]
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
	return p.transfer(output, start, target, sample)
}

func accumulate(sum, v []float32, weight float32) {
	for i := range sum {
		sum[i] += weight * v[i]
	}
}

// multistep takes an Adams-Bashforth step of the order that the outputs so far
// allow, four at most (equation 12).
func (p *pndm) multistep(output []float32, t int, sample []float32) error {
	target := t - p.stride
	if p.counter != 1 || len(p.prk) > 0 {
		p.remember(output)
	} else { // the second visit of the second timestep
		target, t = t, t+p.stride
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
	return p.transfer(output, t, target, sample)
}

func (p *pndm) remember(output []float32) {
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
