package diffusion

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Scheduler leads a sample from noise to a picture: for every timestep the
// model's output is computed and Step moves the sample. A scheduler serves one
// rendering; it is not safe for concurrent use.
type Scheduler interface {
	// Timesteps returns the training timesteps to visit, in order. A timestep
	// may occur more than once.
	Timesteps() []int
	// Step moves the sample in place from timestep t to the next one, given
	// the model's output for it; both have the same length, which stays the
	// same from step to step. The order of the calls is that of Timesteps.
	Step(output []float32, t int, sample []float32) error
}

// SchedulerConfig holds what scheduler_config.json says, as far as the
// schedulers here use it. Absent values mean the default of the scheduler's
// class in diffusers.
type SchedulerConfig struct {
	ClassName           string    `json:"_class_name"`
	TrainTimesteps      int       `json:"num_train_timesteps"`
	BetaStart           float64   `json:"beta_start"`
	BetaEnd             float64   `json:"beta_end"`
	BetaSchedule        string    `json:"beta_schedule"` // linear, scaled_linear, squaredcos_cap_v2
	TrainedBetas        []float64 `json:"trained_betas"`
	PredictionType      string    `json:"prediction_type"`  // epsilon, v_prediction, sample
	TimestepSpacing     string    `json:"timestep_spacing"` // leading, linspace, trailing
	StepsOffset         int       `json:"steps_offset"`
	SetAlphaToOne       *bool     `json:"set_alpha_to_one"`
	ClipSample          *bool     `json:"clip_sample"`
	ClipSampleRange     float64   `json:"clip_sample_range"`
	Thresholding        bool      `json:"thresholding"`
	RescaleBetasZeroSNR bool      `json:"rescale_betas_zero_snr"`
	SkipPRKSteps        bool      `json:"skip_prk_steps"`
}

// ReadSchedulerConfig reads a scheduler_config.json.
func ReadSchedulerConfig(path string) (SchedulerConfig, error) {
	var c SchedulerConfig
	if err := readJSON(path, maxConfigFile, &c); err != nil {
		return c, err
	}
	if err := c.withDefaults().validate(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// The names of schedulers that NewScheduler takes.
const (
	DDIM = "ddim" // Song et al., "Denoising Diffusion Implicit Models" (2021)
	PNDM = "pndm" // Liu et al., "Pseudo Numerical Methods for Diffusion Models on Manifolds" (2022), with Runge-Kutta start
	PLMS = "plms" // PNDM without the Runge-Kutta steps, as Stable Diffusion uses it
)

var schedulerClasses = map[string]string{"DDIMScheduler": DDIM, "PNDMScheduler": PNDM}

// ownName is the scheduler that the configuration names; "" when it is none of these.
func (c SchedulerConfig) ownName() string {
	name := schedulerClasses[c.withDefaults().ClassName]
	if name == PNDM && c.SkipPRKSteps {
		name = PLMS
	}
	return name
}

// NewScheduler makes the named scheduler for a number of inference steps; ""
// is the class that the configuration names (skip_prk_steps tells PLMS from
// PNDM). The configuration of one class serves the others, as in diffusers.
func NewScheduler(config SchedulerConfig, name string, steps int) (Scheduler, error) {
	c := config.withDefaults()
	if name == "" {
		if name = c.ownName(); name == "" {
			return nil, fmt.Errorf("the model's own scheduler %q is not implemented: choose %s or %s", c.ClassName, DDIM, PLMS)
		}
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("scheduler %s: %w", name, err)
	}
	if steps < 1 || steps > c.TrainTimesteps {
		return nil, fmt.Errorf("scheduler %s: %d steps, want 1 to %d", name, steps, c.TrainTimesteps)
	}
	var s Scheduler
	var err error
	switch name {
	case DDIM:
		s, err = newDDIM(c, steps)
	case PNDM, PLMS:
		s, err = newPNDM(c, steps, name == PNDM)
	default:
		return nil, fmt.Errorf("scheduler %q: want %s, %s or %s", name, DDIM, PNDM, PLMS)
	}
	if err != nil {
		return nil, fmt.Errorf("scheduler %s: %w", name, err)
	}
	for _, t := range s.Timesteps() {
		if t < 0 || t >= c.TrainTimesteps {
			return nil, fmt.Errorf("scheduler %s: %d steps with offset %d lead to timestep %d of %d: use fewer steps", name, steps, c.StepsOffset, t, c.TrainTimesteps)
		}
	}
	return s, nil
}

func (c SchedulerConfig) withDefaults() SchedulerConfig {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&c.BetaSchedule, "linear")
	set(&c.PredictionType, "epsilon")
	set(&c.TimestepSpacing, "leading")
	if c.TrainTimesteps == 0 {
		c.TrainTimesteps = 1000
	}
	if c.BetaStart == 0 {
		c.BetaStart = 0.0001
	}
	if c.BetaEnd == 0 {
		c.BetaEnd = 0.02
	}
	if c.ClipSampleRange == 0 {
		c.ClipSampleRange = 1
	}
	return c
}

const maxTrainTimesteps = 100_000

func (c SchedulerConfig) validate() error {
	var errs []error
	oneOf := func(option, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			errs = append(errs, fmt.Errorf("%s %q: want one of %q", option, value, allowed))
		}
	}
	oneOf("beta_schedule", c.BetaSchedule, "linear", "scaled_linear", "squaredcos_cap_v2")
	oneOf("prediction_type", c.PredictionType, "epsilon", "v_prediction", "sample")
	oneOf("timestep_spacing", c.TimestepSpacing, "leading", "linspace", "trailing")
	if c.TrainTimesteps < 2 || c.TrainTimesteps > maxTrainTimesteps {
		errs = append(errs, fmt.Errorf("num_train_timesteps %d: want 2 to %d", c.TrainTimesteps, maxTrainTimesteps))
	}
	if !(c.BetaStart > 0 && c.BetaStart <= c.BetaEnd && c.BetaEnd < 1) {
		errs = append(errs, fmt.Errorf("beta_start %v, beta_end %v: want 0 < start ≤ end < 1", c.BetaStart, c.BetaEnd))
	}
	if n := len(c.TrainedBetas); n != 0 && n != c.TrainTimesteps {
		errs = append(errs, fmt.Errorf("trained_betas: %d for %d timesteps", n, c.TrainTimesteps))
	}
	if c.Thresholding {
		errs = append(errs, errors.New("thresholding is not implemented"))
	}
	return errors.Join(errs...)
}

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
			betas[i] = root * root
		default: // squaredcos_cap_v2: Nichol and Dhariwal 2021
			bar := func(t float64) float64 {
				cos := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
				return cos * cos
			}
			betas[i] = min(1-bar(float64(i+1)/float64(n))/bar(float64(i)/float64(n)), 0.999)
		}
		betas[i] = float64(float32(betas[i]))
	}
	alphas, product := make([]float64, n), 1.0
	for i, beta := range betas {
		product *= float64(1 - float32(beta))
		alphas[i] = float64(float32(product))
	}
	if c.RescaleBetasZeroSNR {
		rescaleZeroSNR(alphas)
	}
	return alphas
}

// lerp32 is element i of n float32 numbers from start to end.
func lerp32(start, end float64, i, n int) float64 {
	return float64(float32(start + (end-start)*float64(i)/float64(n-1)))
}

// rescaleZeroSNR shifts √ᾱ so that the last one is zero (Lin et al., "Common
// Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1).
func rescaleZeroSNR(alphas []float64) {
	first, last := math.Sqrt(alphas[0]), math.Sqrt(alphas[len(alphas)-1])
	for i, a := range alphas {
		root := (math.Sqrt(a) - last) * first / (first - last)
		alphas[i] = root * root
	}
}

// spacing returns the timesteps of the inference steps in ascending order
// (table 2 of Lin et al.).
func (c SchedulerConfig) spacing(steps int) []int {
	total := float64(c.TrainTimesteps)
	var out []int
	switch c.TimestepSpacing {
	case "linspace":
		for i := range steps {
			t := 0.0
			if steps > 1 {
				t = float64(i) * ((total - 1) / float64(steps-1))
			}
			out = append(out, int(math.RoundToEven(t)))
		}
	case "trailing":
		ratio := total / float64(steps)
		for i := range int(math.Ceil(total / ratio)) {
			out = append(out, int(math.RoundToEven(total-float64(i)*ratio))-1)
		}
		slices.Reverse(out)
	default:
		for i := range steps {
			out = append(out, i*(c.TrainTimesteps/steps)+c.StepsOffset)
		}
	}
	return out
}

// alphaAt returns ᾱ of a timestep; before the first one it is final.
func alphaAt(alphas []float64, t int, final float64) float64 {
	if t < 0 {
		return final
	}
	return alphas[t]
}
