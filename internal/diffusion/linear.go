package diffusion

import (
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/philox"
)

// linear is a schedule whose steps are linear in the samples and the model's
// outputs of this step and of a few before: DDIM without clipping, Euler, the
// multistep solvers. Such a schedule can be run inside of a graph.
type linear struct {
	lags      int         // how many steps back, at least 1
	timesteps []float32   // [N]
	input     []float32   // [N]: what the model sees of the sample
	weights   [][]float32 // [N][2+2·lags]: of the sample and the output, then of those of the steps before, latest first
}

// maxLags bounds how far back a schedule is looked at; PLMS of order four goes
// back three steps.
const maxLags = 4

// linearOf finds the weights of a schedule by stepping unit vectors, and holds
// them against the schedule itself on random numbers beyond any clipping. It
// is false for schedules that are not linear or add noise.
func linearOf(plan Scheduler) (linear, bool) {
	n := len(plan.Timesteps())
	for step := range n {
		if plan.Noisy(step) {
			return linear{}, false
		}
	}
	l := linear{lags: 1}
	for step, t := range plan.Timesteps() {
		one := []float32{1}
		plan.Input(step, one, one)
		l.timesteps, l.input = append(l.timesteps, float32(t)), append(l.input, one[0])
		weights, ok := probe(plan, step)
		if !ok {
			return linear{}, false
		}
		for lag := maxLags; lag > l.lags; lag-- {
			if weights[2*lag] != 0 || weights[2*lag+1] != 0 {
				l.lags = lag
			}
		}
		l.weights = append(l.weights, weights)
	}
	for i := range l.weights {
		l.weights[i] = l.weights[i][:2+2*l.lags]
	}
	return l, l.holds(plan)
}

// probe steps to a step with vectors of which element 2k is 1 in the sample of
// k steps before it, and element 2k+1 in the output.
func probe(plan Scheduler, step int) ([]float32, bool) {
	trajectory, err := plan.Start(0)
	if err != nil {
		return nil, false
	}
	var sample []float32
	for at := range step + 1 {
		sample = make([]float32, 2+2*maxLags)
		output := make([]float32, len(sample))
		if lag := step - at; lag <= maxLags {
			sample[2*lag], output[2*lag+1] = 1, 1
		}
		if err := trajectory.Step(output, sample, nil); err != nil {
			return nil, false
		}
	}
	return sample, true
}

// holds runs both on the same outputs; float32 weights and sums against
// float64: 1e-4 of the largest number.
func (l linear) holds(plan Scheduler) bool {
	const size = 16
	random := make([]float32, size*(len(l.timesteps)+1))
	philox.Normals(random, philox.Key{Purpose: "diffusion.linear"})
	trajectory, err := plan.Start(0)
	if err != nil {
		return false
	}
	sample := slices.Clone(random[:size])
	random = random[size:]
	for i := range sample {
		sample[i] *= 4 * float32(max(1, plan.InitialSigma()))
	}
	mine, history := slices.Clone(sample), make([][]float32, 2*l.lags)
	for i := range history {
		history[i] = make([]float32, size)
	}
	for step := range l.timesteps {
		output := random[step*size : (step+1)*size]
		history = append([][]float32{slices.Clone(mine), slices.Clone(output)}, history...)
		for i := range mine {
			sum := 0.0
			for k, w := range l.weights[step] {
				sum += float64(w) * float64(history[k][i])
			}
			mine[i] = float32(sum)
		}
		history = history[:2*l.lags]
		seen := slices.Clone(sample)
		plan.Input(step, seen, seen)
		largest := 1.0
		for i := range sample {
			largest = max(largest, math.Abs(float64(sample[i])))
			if math.Abs(float64(seen[i]-l.input[step]*sample[i])) > 1e-5*largest {
				return false
			}
		}
		if err := trajectory.Step(output, sample, nil); err != nil {
			return false
		}
		for i := range sample {
			if !(math.Abs(float64(mine[i]-sample[i])) <= 1e-4*largest) {
				return false
			}
		}
	}
	return true
}
