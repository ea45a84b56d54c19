package diffusion

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Scheduler plans how samples are led from noise to pictures: at every step the
// model's output is computed for the step's timestep, and the sample moves on.
// A scheduler does not change: it may be shared by everybody who renders with
// it. What a sample keeps from step to step is in its Trajectory.
type Scheduler interface {
	// Timesteps are the training timesteps of the steps, in order. One may
	// occur more than once, and some schedules have fractions.
	Timesteps() []float64
	// InitialSigma is what standard normal noise is multiplied by to start at
	// step 0.
	InitialSigma() float64
	// Input writes what the model is to see of a sample at a step. input may be
	// the sample itself.
	Input(step int, sample, input []float32)
	// AddNoise makes a clean sample, in place, one at the noise level of a
	// step, with standard normal noise.
	AddNoise(step int, sample, noise []float32)
	// Clean writes what the model's output at a step says that the sample is
	// without its noise.
	Clean(step int, output, sample, clean []float32)
	// Noisy says whether a step adds noise.
	Noisy(step int) bool
	// Start begins a sample at a step.
	Start(step int) (Trajectory, error)
}

// Trajectory leads one sample, [C, h, w], through the steps of its scheduler.
// It is not safe for concurrent use.
type Trajectory interface {
	// Step moves the sample in place to the next step, given the model's output
	// for the current one. noise is standard normal, of the sample's length; it
	// is used where the scheduler says Noisy, and may be nil elsewhere.
	Step(output, sample, noise []float32) error

	// history is a copy of what is kept from step to step. recall takes one
	// back, of samples of n numbers, to go on with a step, and says whether it
	// fits.
	history() [][]float32
	recall(history [][]float32, step, n int) bool
}

// The names of schedulers that NewScheduler takes.
const (
	DDIM           = "ddim"            // Song et al., "Denoising Diffusion Implicit Models" (2021)
	PNDM           = "pndm"            // Liu et al., "Pseudo Numerical Methods for Diffusion Models on Manifolds" (2022), with Runge-Kutta start
	PLMS           = "plms"            // PNDM without the Runge-Kutta steps, as Stable Diffusion uses it
	Euler          = "euler"           // Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), algorithm 2 without churn
	EulerKarras    = "euler-karras"    // the same at the noise levels of its equation 5
	EulerAncestral = "euler-ancestral" // Euler's method with noise at every step (k-diffusion)
	DPM            = "dpmpp"           // Lu et al., "DPM-Solver++" (2022): the multistep solver, 2M unless the configuration has another solver_order
	DPMKarras      = "dpmpp-karras"    // the same at the noise levels of Karras et al.
	LCM            = "lcm"             // Luo et al., "Latent Consistency Models" (2023), for models that were distilled so
)

// Schedulers are the names that NewScheduler takes.
func Schedulers() []string {
	return []string{DDIM, PNDM, PLMS, Euler, EulerKarras, EulerAncestral, DPM, DPMKarras, LCM}
}

// Schedule says which scheduler a rendering takes.
type Schedule struct {
	Name  string  // one of Schedulers; "" is the one that the configuration names
	Steps int     // inference steps
	Eta   float64 // η of DDIM, 0 (deterministic) to 1 (DDPM); 0 for all others
}

// NewScheduler makes a scheduler. The configuration of one class serves the
// others, as in diffusers: what it does not say is the default of the chosen
// class. An option or value that the chosen class has in diffusers and this
// package has not is an error that names it.
func NewScheduler(config SchedulerConfig, want Schedule) (Scheduler, error) {
	name := want.Name
	if name == "" {
		if name = config.ownName(); name == "" {
			return nil, fmt.Errorf("the model's own scheduler %q is not implemented: choose one of %s", config.ClassName, strings.Join(Schedulers(), ", "))
		}
	}
	if !slices.Contains(Schedulers(), name) {
		return nil, fmt.Errorf("scheduler %q: want one of %s", name, strings.Join(Schedulers(), ", "))
	}
	c := config.withDefaults(name)
	err := errors.Join(c.validate(), c.supported(name), c.fits(name, want))
	if err != nil {
		return nil, fmt.Errorf("scheduler %s: %w", name, err)
	}
	var s Scheduler
	switch name {
	case DDIM:
		s, err = newDDIM(c, want.Steps, want.Eta)
	case PNDM, PLMS:
		s, err = newPNDM(c, want.Steps, name == PNDM)
	case Euler, EulerKarras, EulerAncestral:
		s, err = newEuler(c, want.Steps, name == EulerAncestral)
	case DPM, DPMKarras:
		s, err = newDPM(c, want.Steps)
	default:
		s, err = newLCM(c, want.Steps)
	}
	if err == nil {
		err = c.inRange(s.Timesteps(), want.Steps)
	}
	if err != nil {
		return nil, fmt.Errorf("scheduler %s: %w", name, err)
	}
	return s, nil
}

// fits checks what is asked for against the configuration.
func (c SchedulerConfig) fits(name string, want Schedule) error {
	var errs []error
	if want.Steps < 1 || want.Steps > c.TrainTimesteps {
		errs = append(errs, fmt.Errorf("%d steps, want 1 to %d", want.Steps, c.TrainTimesteps))
	}
	if want.Eta != 0 && name != DDIM {
		errs = append(errs, fmt.Errorf("eta %v: only ddim has one", want.Eta))
	}
	if !(want.Eta >= 0 && want.Eta <= 1) {
		errs = append(errs, fmt.Errorf("eta %v: want 0 to 1", want.Eta))
	}
	return errors.Join(errs...)
}

func (c SchedulerConfig) inRange(timesteps []float64, steps int) error {
	if len(timesteps) == 0 {
		return fmt.Errorf("%d steps lead nowhere: use another number", steps)
	}
	for _, t := range timesteps {
		if !(t >= 0 && t <= float64(c.TrainTimesteps-1)) {
			return fmt.Errorf("%d steps with steps_offset %d lead to timestep %v of %d: use fewer steps", steps, c.StepsOffset, t, c.TrainTimesteps)
		}
	}
	return nil
}
