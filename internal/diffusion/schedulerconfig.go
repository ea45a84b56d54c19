package diffusion

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
)

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
	RescaleBetasZeroSNR bool      `json:"rescale_betas_zero_snr"`

	// DDIM, PNDM and LCM
	SetAlphaToOne *bool `json:"set_alpha_to_one"`
	SkipPRKSteps  bool  `json:"skip_prk_steps"`

	// of the predicted clean sample: DDIM and LCM, the thresholds DPM-Solver++ too
	ClipSample        *bool    `json:"clip_sample"`
	ClipSampleRange   *float64 `json:"clip_sample_range"`
	Thresholding      bool     `json:"thresholding"`
	ThresholdingRatio *float64 `json:"dynamic_thresholding_ratio"`
	SampleMaxValue    *float64 `json:"sample_max_value"`

	// Euler and DPM-Solver++
	InterpolationType    string   `json:"interpolation_type"` // linear, log_linear
	UseKarrasSigmas      bool     `json:"use_karras_sigmas"`
	UseExponentialSigmas bool     `json:"use_exponential_sigmas"`
	SigmaMin             *float64 `json:"sigma_min"`
	SigmaMax             *float64 `json:"sigma_max"`
	FinalSigmasType      string   `json:"final_sigmas_type"` // zero, sigma_min

	// DPM-Solver++
	AlgorithmType    string   `json:"algorithm_type"` // dpmsolver++
	SolverOrder      int      `json:"solver_order"`   // 1 to 3
	SolverType       string   `json:"solver_type"`    // midpoint, heun; diffusers takes logrho, bh1 and bh2 for midpoint
	LowerOrderFinal  *bool    `json:"lower_order_final"`
	EulerAtFinal     bool     `json:"euler_at_final"`
	LambdaMinClipped extended `json:"lambda_min_clipped"`

	// LCM
	OriginalSteps   int      `json:"original_inference_steps"`
	TimestepScaling *float64 `json:"timestep_scaling"`

	// others are the options that are not here, by name. Those that are null or
	// false are left out.
	others map[string]string
}

// extended is a number that may be infinite: Python writes -Infinity. Zero, the
// absent value, stands for -Inf.
type extended struct {
	set   bool
	value float64
}

func (e *extended) UnmarshalJSON(data []byte) error {
	switch text := strings.Trim(string(data), `"`); text {
	case "-Infinity":
		*e = extended{true, math.Inf(-1)}
	case "Infinity":
		*e = extended{true, math.Inf(1)}
	default:
		e.set = true
		return json.Unmarshal(data, &e.value)
	}
	return nil
}

// MarshalJSON writes what Python would, infinities in quotes.
func (e extended) MarshalJSON() ([]byte, error) {
	switch {
	case !e.set:
		return []byte("null"), nil
	case math.IsInf(e.value, 0):
		return json.Marshal(map[bool]string{true: "Infinity", false: "-Infinity"}[e.value > 0])
	}
	return json.Marshal(e.value)
}

// ReadSchedulerConfig reads a scheduler_config.json. Whether all of it is
// supported depends on the scheduler that is chosen: see NewScheduler.
func ReadSchedulerConfig(path string) (SchedulerConfig, error) {
	f, err := os.Open(path)
	if err != nil {
		return SchedulerConfig{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return SchedulerConfig{}, err
	}
	if len(data) > maxConfigFile {
		return SchedulerConfig{}, fmt.Errorf("%s: want at most %d bytes", path, maxConfigFile)
	}
	c, err := ParseSchedulerConfig(data)
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseSchedulerConfig reads the content of a scheduler_config.json and checks
// what does not depend on the scheduler.
func ParseSchedulerConfig(data []byte) (SchedulerConfig, error) {
	var c SchedulerConfig
	if err := json.Unmarshal(quoteInfinities(data), &c); err != nil {
		return c, err
	}
	return c, c.withDefaults(c.ownName()).validate()
}

// UnmarshalJSON keeps the options that have no field.
func (c *SchedulerConfig) UnmarshalJSON(data []byte) error {
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	var defaults []string // set by nobody: another class has others
	if err := json.Unmarshal([]byte(cmp.Or(string(all["_use_default_values"]), "[]")), &defaults); err != nil {
		return fmt.Errorf("_use_default_values: %w", err)
	}
	for _, name := range defaults {
		delete(all, name)
	}
	known, err := json.Marshal(all)
	if err != nil {
		return err
	}
	type plain SchedulerConfig
	*c = SchedulerConfig{}
	if err := json.Unmarshal(known, (*plain)(c)); err != nil {
		return err
	}
	fields := optionsOf(SchedulerConfig{})
	for name, value := range all {
		text := string(value)
		if strings.HasPrefix(name, "_") || slices.Contains(fields, name) || text == "null" || text == "false" {
			continue
		}
		if c.others == nil {
			c.others = map[string]string{}
		}
		c.others[name] = text
	}
	return nil
}

// optionsOf names the options that have a field.
func optionsOf(c SchedulerConfig) []string {
	var names []string
	for f := range reflect.TypeOf(c).Fields() {
		if name, ok := f.Tag.Lookup("json"); ok {
			names = append(names, name)
		}
	}
	return names
}

// quoteInfinities makes strings of the infinities that Python writes into JSON.
func quoteInfinities(data []byte) []byte {
	var out []byte
	quoted := false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case quoted && b == '\\' && i+1 < len(data):
			out = append(out, b)
			i++
		case b == '"':
			quoted = !quoted
		case !quoted && (b == '-' || b == 'I'):
			for _, word := range []string{"-Infinity", "Infinity"} {
				if bytes.HasPrefix(data[i:], []byte(word)) {
					out = append(append(append(out, '"'), word...), '"')
					i += len(word)
					break
				}
			}
		}
		if i < len(data) {
			out = append(out, data[i])
		}
	}
	return out
}

var schedulerClasses = map[string]string{
	"DDIMScheduler": DDIM, "PNDMScheduler": PNDM, "EulerDiscreteScheduler": Euler, "EulerAncestralDiscreteScheduler": EulerAncestral,
	"DPMSolverMultistepScheduler": DPM, "LCMScheduler": LCM,
}

// ownName is the scheduler that the configuration names; "" when it is none of these.
func (c SchedulerConfig) ownName() string {
	name := schedulerClasses[c.ClassName]
	switch {
	case name == PNDM && c.SkipPRKSteps:
		return PLMS
	case name == Euler && c.UseKarrasSigmas:
		return EulerKarras
	case name == DPM && c.UseKarrasSigmas:
		return DPMKarras
	}
	return name
}

// withDefaults fills in the defaults of a scheduler's class in diffusers, and
// what its name says.
func (c SchedulerConfig) withDefaults(name string) SchedulerConfig {
	text := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	switch name {
	case Euler, EulerKarras, EulerAncestral, DPM, DPMKarras:
		text(&c.TimestepSpacing, "linspace")
	case LCM:
		text(&c.BetaSchedule, "scaled_linear")
		c.BetaStart = cmp.Or(c.BetaStart, 0.00085)
		c.BetaEnd = cmp.Or(c.BetaEnd, 0.012)
	}
	text(&c.BetaSchedule, "linear")
	text(&c.PredictionType, "epsilon")
	text(&c.TimestepSpacing, "leading")
	text(&c.InterpolationType, "linear")
	text(&c.FinalSigmasType, "zero")
	text(&c.AlgorithmType, "dpmsolver++")
	text(&c.SolverType, "midpoint")
	c.TrainTimesteps = cmp.Or(c.TrainTimesteps, 1000)
	c.BetaStart = cmp.Or(c.BetaStart, 0.0001)
	c.BetaEnd = cmp.Or(c.BetaEnd, 0.02)
	c.SolverOrder = cmp.Or(c.SolverOrder, 2)
	c.OriginalSteps = cmp.Or(c.OriginalSteps, 50)
	if c.SetAlphaToOne == nil {
		c.SetAlphaToOne = new(name != PNDM && name != PLMS)
	}
	if c.ClipSample == nil {
		c.ClipSample = new(name == DDIM)
	}
	if c.LowerOrderFinal == nil {
		c.LowerOrderFinal = new(true)
	}
	for _, o := range []struct {
		to     **float64
		absent float64
	}{{&c.ClipSampleRange, 1}, {&c.ThresholdingRatio, 0.995}, {&c.SampleMaxValue, 1}, {&c.TimestepScaling, 10}} {
		if *o.to == nil {
			*o.to = new(o.absent)
		}
	}
	if name == EulerKarras || name == DPMKarras {
		c.UseKarrasSigmas = true
	}
	return c
}

const maxTrainTimesteps = 100_000

// validate checks what all schedulers share.
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
	if c.StepsOffset < 0 || c.StepsOffset > maxTrainTimesteps {
		errs = append(errs, fmt.Errorf("steps_offset %d: want 0 to %d", c.StepsOffset, maxTrainTimesteps))
	}
	if !(c.BetaStart > 0 && c.BetaStart <= c.BetaEnd && c.BetaEnd < 1) {
		errs = append(errs, fmt.Errorf("beta_start %v, beta_end %v: want 0 < start ≤ end < 1", c.BetaStart, c.BetaEnd))
	}
	if n := len(c.TrainedBetas); n != 0 && n != c.TrainTimesteps {
		errs = append(errs, fmt.Errorf("trained_betas: %d for %d timesteps", n, c.TrainTimesteps))
	}
	for i, b := range c.TrainedBetas {
		if !(b > 0 && b < 1) {
			errs = append(errs, fmt.Errorf("trained_betas[%d] is %v: want more than 0 and less than 1", i, b))
			break
		}
	}
	return errors.Join(errs...)
}

// supported checks the options that one scheduler uses.
func (c SchedulerConfig) supported(name string) error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	oneOf := func(option, value string, allowed ...string) {
		want(slices.Contains(allowed, value), "%s %q is not supported: want one of %q", option, value, allowed)
	}
	euler, dpm := name == Euler || name == EulerKarras, name == DPM || name == DPMKarras
	if name == PNDM || name == PLMS || name == EulerAncestral {
		oneOf("prediction_type", c.PredictionType, "epsilon", "v_prediction")
	}
	if euler {
		oneOf("interpolation_type", c.InterpolationType, "linear", "log_linear")
	}
	if euler || dpm {
		oneOf("final_sigmas_type", c.FinalSigmasType, "zero", "sigma_min")
		want(!c.UseKarrasSigmas || !c.UseExponentialSigmas, "use_karras_sigmas and use_exponential_sigmas exclude each other")
		for option, s := range map[string]*float64{"sigma_min": c.SigmaMin, "sigma_max": c.SigmaMax} {
			want(s == nil || *s > 0 && *s <= maxSigma, "%s: want more than 0 and at most %v", option, float64(maxSigma))
		}
	}
	if dpm {
		oneOf("algorithm_type", c.AlgorithmType, "dpmsolver++")
		oneOf("solver_type", c.SolverType, "midpoint", "heun", "logrho", "bh1", "bh2")
		want(c.SolverOrder >= 1 && c.SolverOrder <= 3, "solver_order %d is not supported: want 1 to 3", c.SolverOrder)
	}
	if name == LCM {
		want(c.OriginalSteps >= 1 && c.OriginalSteps <= c.TrainTimesteps, "original_inference_steps %d: want 1 to %d", c.OriginalSteps, c.TrainTimesteps)
	}
	if c.Thresholding && (name == DDIM || name == LCM || dpm) {
		want(*c.ThresholdingRatio >= 0 && *c.ThresholdingRatio <= 1, "dynamic_thresholding_ratio %v: want 0 to 1", *c.ThresholdingRatio)
		want(*c.SampleMaxValue >= 1, "sample_max_value %v: want 1 or more", *c.SampleMaxValue)
	}
	want(*c.ClipSampleRange >= 0 || name != DDIM && name != LCM, "clip_sample_range %v: want 0 or more", *c.ClipSampleRange)
	for _, option := range slices.Sorted(maps.Keys(c.others)) {
		value := c.others[option]
		neutral, used := foreignOptions[option]
		switch {
		case !used:
			errs = append(errs, fmt.Errorf("option %q is none that diffusers' schedulers have: take it out of scheduler_config.json if nothing depends on it", option))
		case !slices.Contains(neutral.by, name) || slices.Contains(neutral.values, value):
		default:
			errs = append(errs, fmt.Errorf("%s %s is not supported", option, value))
		}
	}
	return errors.Join(errs...)
}

const maxSigma = 1e6

// foreign is an option of diffusers' schedulers that has no field: the
// schedulers here that have it there, and the values (as JSON, beside null and
// false) with which it changes nothing.
type foreign struct{ by, values []string }

var foreignOptions = map[string]foreign{
	"timestep_type":        {[]string{Euler, EulerKarras}, []string{`"discrete"`}},
	"use_beta_sigmas":      {[]string{Euler, EulerKarras, DPM, DPMKarras}, nil},
	"use_lu_lambdas":       {[]string{DPM, DPMKarras}, nil},
	"use_flow_sigmas":      {[]string{DPM, DPMKarras}, nil},
	"use_dynamic_shifting": {[]string{DPM, DPMKarras}, nil},
	"variance_type":        {[]string{DPM, DPMKarras}, nil},
	"flow_shift":           {}, // counts only with use_flow_sigmas
	"time_shift_type":      {}, // counts only with use_dynamic_shifting
	// of other classes
	"disable_corrector": {}, "predict_x0": {}, "solver_p": {}, "rho": {}, "shift_terminal": {}, "sigma_data": {}, "sigma_schedule": {},
}
