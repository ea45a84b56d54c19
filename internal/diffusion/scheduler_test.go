package diffusion

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/philox"
)

// scheduleCase is a recording of tools/vectors/schedulers.py: two samples, led
// at once by diffusers in float32.
type scheduleCase struct {
	Config    SchedulerConfig
	Steps     int
	Eta       float64
	First     int
	Timesteps recorded
	Sigma     float64
	Samples   recorded // [1 + steps, 2, 5], before and after every step
	Gains     recorded // [steps, 2] of the stand-in for a model
}

// apart are the largest differences of a schedule.
type differences struct {
	cases           int
	absolute, scale float64 // scale: relative to the largest number of the step, where that is above 1
	last            float64 // absolute, of the finished sample
}

func (d *differences) add(o differences) {
	d.cases += o.cases
	d.absolute, d.scale, d.last = max(d.absolute, o.absolute), max(d.scale, o.scale), max(d.last, o.last)
}

// TestSchedulersMatchDiffusers compares every step of every recorded schedule:
// what the model is shown, and the samples. This package computes in float64
// with the samples in float32. 1e-4 is asked of 50 steps (and held by 250): of
// the finished sample absolutely, of samples full of noise (σ up to 4096 with
// zero-terminal SNR) relative to their scale.
func TestSchedulersMatchDiffusers(t *testing.T) {
	var vectors struct {
		Start, Noise recorded
		Cases        []scheduleCase
	}
	readVectors(t, "scheduler.json", &vectors)
	table := map[string]*differences{}
	for k, c := range vectors.Cases {
		name := fmt.Sprintf("case %d, %s %d", k, c.Config.ClassName, c.Steps)
		s, err := NewScheduler(c.Config, Schedule{Steps: c.Steps, Eta: c.Eta})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		d, err := c.follow(s, vectors.Start, vectors.Noise)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d.last > 1e-4 || d.scale > 1e-4 {
			t.Errorf("%s: differs by %.2g at the end, by %.2g (%.2g of its scale) on the way", name, d.last, d.absolute, d.scale)
		}
		key := c.Config.ownName()
		if table[key] == nil {
			table[key] = &differences{}
		}
		table[key].add(d)
	}
	var lines strings.Builder
	fmt.Fprintf(&lines, "| scheduler | schedules | finished sample | any step | any step, of its scale |\n| --- | --: | --: | --: | --: |\n")
	for _, name := range Schedulers() {
		d := table[name]
		if d == nil {
			t.Errorf("no recorded schedule of %s", name)
			continue
		}
		fmt.Fprintf(&lines, "| `%s` | %d | %.1e | %.1e | %.1e |\n", name, d.cases, d.last, d.absolute, d.scale)
	}
	t.Logf("%d schedules; largest differences:\n%s", len(vectors.Cases), &lines)
	if path := os.Getenv("DREAMOOD_PARITY_TABLE"); path != "" {
		if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// follow takes the recorded steps.
func (c scheduleCase) follow(s Scheduler, start, noise []float32) (differences, error) {
	d := differences{cases: 1}
	var timesteps []float32
	for _, t := range s.Timesteps() {
		timesteps = append(timesteps, float32(t))
	}
	for i, want := range c.Timesteps {
		if len(timesteps) != len(c.Timesteps) || math.Abs(float64(timesteps[i]-want)) > 1e-6*max(1, float64(want)) {
			return d, fmt.Errorf("timesteps %v, want %v", timesteps, c.Timesteps)
		}
	}
	if math.Abs(s.InitialSigma()/c.Sigma-1) > 1e-6 {
		return d, fmt.Errorf("initial σ %v, want %v", s.InitialSigma(), c.Sigma)
	}
	const items, size = 2, 5
	for item := range items {
		at := func(values []float32, step int) []float32 {
			return values[(items*step+item)*size : (items*step+item+1)*size]
		}
		sample := slices.Clone(at(start, 0))
		if c.First > 0 {
			s.AddNoise(c.First, sample, at(noise, 0))
		} else {
			for i := range sample {
				sample[i] = float32(s.InitialSigma() * float64(sample[i]))
			}
		}
		trajectory, err := s.Start(c.First)
		if err != nil {
			return d, err
		}
		d.compare(sample, at(c.Samples, 0), false)
		for step := c.First; step < len(timesteps); step++ {
			input, added := make([]float32, size), make([]float32, size)
			s.Input(step, sample, input)
			philox.Normals(added, philox.Key{Seed: 5, Purpose: StepPurpose, Index: uint64(item), Step: uint32(step)})
			if !s.Noisy(step) {
				added = nil
			}
			if err := trajectory.Step(standIn(input, float64(c.Timesteps[step]), c.Gains[2*(step-c.First):]), sample, added); err != nil {
				return d, err
			}
			d.compare(sample, at(c.Samples, step-c.First+1), step+1 == len(timesteps))
		}
	}
	return d, nil
}

func (d *differences) compare(got, want []float32, last bool) {
	scale := 1.0
	for _, w := range want {
		scale = max(scale, math.Abs(float64(w)))
	}
	for i := range want {
		apart := math.Abs(float64(got[i] - want[i]))
		if !(apart <= d.absolute) {
			d.absolute = apart
		}
		if !(apart/scale <= d.scale) {
			d.scale = apart / scale
		}
		if last && !(apart <= d.last) {
			d.last = apart
		}
	}
}

// standIn is the cheap model of the recording script.
func standIn(x []float32, t float64, gains []float32) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(float64(gains[0])*float64(v) + float64(gains[1])*math.Sin(1.7*float64(v)+t/300))
	}
	return out
}

// TestClean: a sample that is made noisy is found again from the right output
// of the model, at every step of every scheduler, for every kind of prediction.
func TestClean(t *testing.T) {
	want, noise := []float32{0.7, -0.9, 0.1}, []float32{-0.4, 0.9, 2}
	for _, name := range Schedulers() {
		for _, kind := range []string{"epsilon", "v_prediction", "sample"} {
			s, err := NewScheduler(SchedulerConfig{PredictionType: kind, BetaSchedule: "scaled_linear", BetaStart: 0.00085, BetaEnd: 0.012}, Schedule{Name: name, Steps: 10})
			if err != nil {
				if strings.Contains(err.Error(), `prediction_type "sample"`) {
					continue
				}
				t.Fatal(err)
			}
			for step := range s.Timesteps() {
				sample, input := slices.Clone(want), make([]float32, 3)
				s.AddNoise(step, sample, noise)
				s.Input(step, sample, input)
				output, clean := make([]float32, 3), make([]float32, 3)
				// The input has variance 1: a and b with input = a·clean + b·ε.
				b := (float64(input[0])*float64(want[1]) - float64(input[1])*float64(want[0])) / (float64(noise[0])*float64(want[1]) - float64(noise[1])*float64(want[0]))
				a := (float64(input[0]) - b*float64(noise[0])) / float64(want[0])
				for i := range output {
					output[i] = map[string]float32{"epsilon": noise[i], "v_prediction": float32(a*float64(noise[i]) - b*float64(want[i])), "sample": want[i]}[kind]
				}
				s.Clean(step, output, sample, clean)
				if math.Abs(a*a+b*b-1) > 1e-4 {
					t.Errorf("%s: the model sees a sample of variance %v at step %d", name, a*a+b*b, step)
				}
				for i, got := range clean {
					if math.Abs(float64(got-want[i])) > 1e-4 {
						t.Errorf("%s, %s, step %d: %v, want %v", name, kind, step, got, want[i])
					}
				}
			}
		}
	}
}

func TestSchedulerErrors(t *testing.T) {
	config := func(text string) SchedulerConfig {
		c, err := ParseSchedulerConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	plan := func(text, name string, steps int) func() error {
		return func() error {
			_, err := NewScheduler(config(text), Schedule{Name: name, Steps: steps})
			return err
		}
	}
	for want, make := range map[string]func() error{
		`"HeunDiscreteScheduler" is not implemented`:            plan(`{"_class_name": "HeunDiscreteScheduler"}`, "", 10),
		`scheduler "heun"`:                                      plan(`{}`, "heun", 10),
		"0 steps":                                               plan(`{}`, DDIM, 0),
		"1001 steps":                                            plan(`{}`, DDIM, 1001),
		"timestep 1000 of 1000":                                 plan(`{"steps_offset": 1}`, DDIM, 1000),
		`prediction_type "sample" is not supported`:             plan(`{"prediction_type": "sample"}`, PLMS, 10),
		"want at least 4":                                       plan(`{}`, PNDM, 3),
		"60 steps, want at most 50":                             plan(`{}`, LCM, 60),
		`algorithm_type "sde-dpmsolver++" is not supported`:     plan(`{"algorithm_type": "sde-dpmsolver++"}`, DPM, 10),
		`solver_type "bh3" is not supported`:                    plan(`{"solver_type": "bh3"}`, DPM, 10),
		`solver_order 4 is not supported`:                       plan(`{"solver_order": 4}`, DPM, 10),
		`final_sigmas_type "one" is not supported`:              plan(`{"final_sigmas_type": "one"}`, Euler, 10),
		`interpolation_type "cubic" is not supported`:           plan(`{"interpolation_type": "cubic"}`, Euler, 10),
		`use_beta_sigmas true is not supported`:                 plan(`{"use_beta_sigmas": true}`, Euler, 10),
		`use_lu_lambdas true is not supported`:                  plan(`{"use_lu_lambdas": true}`, DPM, 10),
		`use_flow_sigmas true is not supported`:                 plan(`{"use_flow_sigmas": true}`, DPM, 10),
		`variance_type "learned_range" is not supported`:        plan(`{"variance_type": "learned_range"}`, DPM, 10),
		`timestep_type "continuous" is not supported`:           plan(`{"timestep_type": "continuous"}`, Euler, 10),
		`exclude each other`:                                    plan(`{"use_karras_sigmas": true, "use_exponential_sigmas": true}`, Euler, 10),
		`option "flux" is none that diffusers' schedulers have`: plan(`{"flux": 3}`, DDIM, 10),
		`sigma_min: want more than 0`:                           plan(`{"sigma_min": -1}`, EulerKarras, 10),
		`pure noise tells nothing`:                              plan(`{"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"}`, DDIM, 10),
		`original_inference_steps 2000`:                         plan(`{"original_inference_steps": 2000}`, LCM, 10),
		`dynamic_thresholding_ratio 7`:                          plan(`{"thresholding": true, "dynamic_thresholding_ratio": 7}`, DPM, 10),
		`clip_sample_range`:                                     parse(`{"clip_sample_range": Infinity}`),
		`beta_schedule "exp"`:                                   parse(`{"beta_schedule": "exp"}`),
		"num_train_timesteps":                                   parse(`{"num_train_timesteps": 1099511627776}`),
		"trained_betas[1]":                                      parse(`{"num_train_timesteps": 2, "trained_betas": [0.1, 1.5]}`),
		"steps_offset -1":                                       parse(`{"steps_offset": -1}`),
		"only ddim": func() error {
			_, err := NewScheduler(config(`{}`), Schedule{Name: Euler, Steps: 5, Eta: 1})
			return err
		},
		"eta 2: want": func() error { _, err := NewScheduler(config(`{}`), Schedule{Name: DDIM, Steps: 5, Eta: 2}); return err },
	} {
		if err := make(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func parse(text string) func() error {
	return func() error { _, err := ParseSchedulerConfig([]byte(text)); return err }
}

// TestConfigurationOfAnotherClass: it serves every scheduler; what belongs to
// other classes, or changes nothing, is no error.
func TestConfigurationOfAnotherClass(t *testing.T) {
	for _, text := range []string{
		`{"_class_name": "HeunDiscreteScheduler", "_diffusers_version": "0.42", "clip_sample": false, "sample_max_value": 1.0, "skip_prk_steps": true, "trained_betas": null}`,
		`{"_class_name": "UniPCMultistepScheduler", "disable_corrector": [], "predict_x0": true, "solver_p": null, "solver_type": "bh2", "use_flow_sigmas": false, "flow_shift": 1.0}`,
		`{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "variance_type": null, "time_shift_type": "exponential"}`,
		`{"_class_name": "EulerDiscreteScheduler", "timestep_type": "discrete", "use_beta_sigmas": false, "sigma_min": null}`,
	} {
		c, err := ParseSchedulerConfig([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, name := range Schedulers() {
			if _, err := NewScheduler(c, Schedule{Name: name, Steps: 10}); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}

// A default that nobody set is not the default of another class.
func TestUnsetDefaults(t *testing.T) {
	c, err := ParseSchedulerConfig([]byte(`{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "linspace", "_use_default_values": ["timestep_spacing"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.withDefaults(DDIM).TimestepSpacing; got != "leading" {
		t.Errorf("spacing %q, want DDIM's own", got)
	}
	if got := c.withDefaults(Euler).TimestepSpacing; got != "linspace" {
		t.Errorf("spacing %q, want Euler's own", got)
	}
}

// FuzzSchedulerConfig: any configuration is refused, or leads any scheduler
// through its steps without a crash.
func FuzzSchedulerConfig(f *testing.F) {
	f.Add([]byte(`{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "clip_sample": false}`), uint8(0), uint16(10))
	f.Add([]byte(`{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3, "lambda_min_clipped": -Infinity, "use_karras_sigmas": true}`), uint8(6), uint16(20))
	f.Add([]byte(`{"num_train_timesteps": 7, "trained_betas": [0.1,0.1,0.1,0.1,0.1,0.1,0.1], "timestep_spacing": "trailing"}`), uint8(3), uint16(3))
	f.Add([]byte(`{"thresholding": true, "rescale_betas_zero_snr": true, "prediction_type": "v_prediction"}`), uint8(8), uint16(4))
	f.Fuzz(func(t *testing.T, data []byte, which uint8, steps uint16) {
		c, err := ParseSchedulerConfig(data)
		if err != nil || c.TrainTimesteps > 2000 {
			return
		}
		name := append([]string{""}, Schedulers()...)[int(which)%(1+len(Schedulers()))]
		s, err := NewScheduler(c, Schedule{Name: name, Steps: int(steps)})
		if err != nil {
			return
		}
		trajectory, err := s.Start(0)
		if err != nil {
			t.Fatal(err)
		}
		sample, noise := []float32{0.5, -1, 2}, []float32{1, -1, 0.1}
		for step, at := range s.Timesteps() {
			if math.IsNaN(at) || at < 0 {
				t.Fatalf("timestep %v", at)
			}
			input := make([]float32, len(sample))
			s.Input(step, sample, input)
			if err := trajectory.Step(standIn(input, at, []float32{0.1, 0.8}), sample, noise); err != nil {
				t.Fatal(err)
			}
		}
	})
}
