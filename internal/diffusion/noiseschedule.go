package diffusion

import (
	"math"
	"slices"
)

// alphasCumprod returns ᾱ of every training timestep, rounded to float32
// where diffusers rounds.
func (c SchedulerConfig) alphasCumprod() []float64 {
	n := c.TrainTimesteps
	betas := make([]float64, n)
	for i := range betas {
		switch {
		case len(c.TrainedBetas) > 0:
			betas[i] = c.TrainedBetas[i]
		case c.BetaSchedule == "linear":
			betas[i] = lerp32(c.BetaStart, c.BetaEnd, i, n)
		case c.BetaSchedule == "scaled_linear":
			root := lerp32(math.Sqrt(c.BetaStart), math.Sqrt(c.BetaEnd), i, n)
			betas[i] = root * root // rounded below
		default: // squaredcos_cap_v2: Nichol and Dhariwal 2021
			bar := func(t float64) float64 {
				cos := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
				return cos * cos
			}
			betas[i] = min(1-bar(float64(i+1)/float64(n))/bar(float64(i)/float64(n)), 0.999)
		}
		betas[i] = float64(float32(betas[i]))
	}
	alphas := cumulated(betas)
	if c.RescaleBetasZeroSNR {
		alphas = rescaleZeroSNR(alphas)
	}
	return alphas
}

// cumulated returns the running product of 1-β, in float64 rounded to float32.
func cumulated(betas []float64) []float64 {
	alphas, product := make([]float64, len(betas)), 1.0
	for i, beta := range betas {
		product *= float64(1 - float32(beta))
		alphas[i] = float64(float32(product))
	}
	return alphas
}

// lerp32 is element i of n float32 numbers from start to end, counted from
// the nearer end as torch.linspace does.
func lerp32(start, end float64, i, n int) float64 {
	first, last := float32(start), float32(end)
	step := float64((last - first) / float32(n-1))
	if i < n/2 {
		return float64(float32(float64(first) + step*float64(i)))
	}
	return float64(float32(float64(last) - step*float64(n-1-i)))
}

// rescaleZeroSNR shifts √ᾱ so that the last one is zero (Lin et al., "Common
// Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1).
// The betas are made again from it, in float32 throughout: the rounding is that
// of diffusers.
func rescaleZeroSNR(alphas []float64) []float64 {
	root := func(a float64) float32 { return float32(math.Sqrt(a)) }
	first, last := root(alphas[0]), root(alphas[len(alphas)-1])
	factor := first / (first - last)
	bar := make([]float32, len(alphas))
	for i, a := range alphas {
		r := (root(a) - last) * factor
		bar[i] = r * r
	}
	betas := make([]float64, len(alphas))
	for i, b := range bar {
		if i > 0 {
			b /= bar[i-1]
		}
		betas[i] = float64(1 - b)
	}
	return cumulated(betas)
}

// trainingSigmas returns √((1-ᾱ)/ᾱ) of every training timestep, float32. With
// zero-terminal SNR the last one is finite, as in diffusers: 4096.
func (c SchedulerConfig) trainingSigmas() []float64 {
	alphas := c.alphasCumprod()
	if c.RescaleBetasZeroSNR {
		alphas[len(alphas)-1] = 0x1p-24
	}
	for i, a := range alphas {
		alphas[i] = float64(float32(math.Sqrt((1 - a) / a)))
	}
	return alphas
}

// spacing returns whole timesteps of the inference steps in descending order
// (table 2 of Lin et al.).
func (c SchedulerConfig) spacing(steps int) []float64 {
	var out []float64
	switch c.TimestepSpacing {
	case "linspace":
		out = linspace(0, float64(c.TrainTimesteps-1), steps)
		for i, t := range out {
			out[i] = math.RoundToEven(t)
		}
		slices.Reverse(out)
	case "trailing":
		out = c.trailing(float64(c.TrainTimesteps), steps)
	default:
		out = c.leading(c.TrainTimesteps/steps, 0, steps)
	}
	return out
}

// leading returns the multiples [from, steps) of a stride, moved by
// steps_offset, in descending order.
func (c SchedulerConfig) leading(stride, from, steps int) []float64 {
	var out []float64
	for i := steps - 1; i >= from; i-- {
		out = append(out, float64(i*stride+c.StepsOffset))
	}
	return out
}

// trailing steps down from a timestep, as numpy.arange does, rounding and all.
func (c SchedulerConfig) trailing(from float64, steps int) []float64 {
	var out []float64
	stride := float64(c.TrainTimesteps) / float64(steps)
	delta := (from - stride) - from
	for i := range int(math.Ceil(from / stride)) {
		out = append(out, math.RoundToEven(from+float64(i)*delta)-1)
	}
	return out
}

// linspace returns n numbers from start to end as numpy.linspace does.
func linspace(start, end float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = start
		if n > 1 {
			out[i] = float64(i)*((end-start)/float64(n-1)) + start
		}
	}
	if n > 1 {
		out[n-1] = end
	}
	return out
}

// interpolate is the value at x of a line through the values at 0, 1, 2, …
func interpolate(x float64, values []float64) float64 {
	i := int(min(max(x, 0), float64(len(values)-1)))
	if i == len(values)-1 {
		return values[i]
	}
	return values[i] + (values[i+1]-values[i])*(x-float64(i))
}

// respaced returns the noise levels of the inference steps in descending order
// where the configuration wants those of Karras et al. (equation 5, ρ = 7) or
// exponential ones, between the given bounds or its own; nil where it does not.
func (c SchedulerConfig) respaced(smallest, largest float64, steps int) []float64 {
	if c.SigmaMin != nil {
		smallest = *c.SigmaMin
	}
	if c.SigmaMax != nil {
		largest = *c.SigmaMax
	}
	const rho = 7
	switch {
	case c.UseKarrasSigmas:
		out := linspace(0, 1, steps)
		low, high := math.Pow(smallest, 1./rho), math.Pow(largest, 1./rho)
		for i, ramp := range out {
			out[i] = math.Pow(high+ramp*(low-high), rho)
		}
		return out
	case c.UseExponentialSigmas:
		out := linspace(math.Log(largest), math.Log(smallest), steps)
		for i, log := range out {
			out[i] = math.Exp(log)
		}
		return out
	}
	return nil
}

// timestepsOf returns the training timesteps, with fractions, at which the
// noise has the given levels, by linear interpolation of their logarithms.
func timestepsOf(sigmas, training []float64) []float64 {
	logs := make([]float64, len(training))
	for i, s := range training {
		logs[i] = float64(float32(math.Log(s)))
	}
	out := make([]float64, len(sigmas))
	for k, sigma := range sigmas {
		log := math.Log(max(sigma, 1e-10))
		low := 0
		for i, l := range logs {
			if log >= l {
				low = i
			}
		}
		low = min(low, len(logs)-2)
		w := min(max((logs[low]-log)/(logs[low]-logs[low+1]), 0), 1)
		out[k] = (1-w)*float64(low) + w*float64(low+1)
	}
	return out
}
