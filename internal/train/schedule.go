package train

import (
	"fmt"
	"math"
)

// Schedule is a learning rate over the steps of a training.
type Schedule struct {
	Kind string  // "onecycle" (see [OneCycleRate]), "cosine" (warm-up, then [CosineRate] to 0) or "constant" (after the warm-up)
	Peak float64 // highest rate
	// Warmup is the share of the steps in which the rate rises; onecycle wants more than 0.
	Warmup float64
}

// Schedules are the kinds of [Schedule].
var Schedules = []string{"onecycle", "cosine", "constant"}

// Validate reports a schedule that has no rates.
func (s Schedule) Validate() error {
	switch {
	case s.Kind != "onecycle" && s.Kind != "cosine" && s.Kind != "constant":
		return fmt.Errorf("schedule %q: known are onecycle, cosine and constant", s.Kind)
	case !(s.Peak > 0) || math.IsInf(s.Peak, 0):
		return fmt.Errorf("peak learning rate: %g; want more than 0", s.Peak)
	case !(s.Warmup >= 0 && s.Warmup < 1) || s.Kind == "onecycle" && s.Warmup == 0:
		return fmt.Errorf("warm-up: %g of the steps; want 0 or more (onecycle: above 0) and less than 1", s.Warmup)
	}
	return nil
}

// Rate is the learning rate at a step of total, 0 ≤ step < total.
func (s Schedule) Rate(step, total int) float32 {
	if s.Kind == "onecycle" {
		return OneCycleRate(step, total, Cycle{Peak: s.Peak, Warmup: s.Warmup})
	}
	warm := int(math.Round(s.Warmup * float64(total)))
	switch {
	case step < warm:
		return float32(s.Peak * float64(step+1) / float64(warm))
	case s.Kind == "cosine":
		return CosineRate(step-warm, total-warm, s.Peak, 0)
	}
	return float32(s.Peak)
}

// CosineRate is the learning rate at a step of total: it falls from peak (step 0) to
// floor (step total) along half a cosine (Loshchilov and Hutter 2017).
func CosineRate(step, total int, peak, floor float64) float32 {
	return float32(anneal(peak, floor, progress(float64(step), float64(total))))
}

// Cycle describes a one-cycle learning rate (Smith and Topin 2018), with the
// meaning and defaults of torch.optim.lr_scheduler.OneCycleLR.
type Cycle struct {
	Peak   float64
	Warmup float64 // share of the steps that rise, 0 is 0.3
	Start  float64 // first rate is Peak/Start, 0 is 25
	Final  float64 // last rate is Peak/(Start·Final), 0 is 10⁴
	Linear bool    // straight lines, else half cosines
}

// OneCycleRate is the learning rate at a step of total, 0 ≤ step < total.
func OneCycleRate(step, total int, c Cycle) float32 {
	fill := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	fill(&c.Warmup, 0.3)
	fill(&c.Start, 25)
	fill(&c.Final, 1e4)
	between := anneal
	if c.Linear {
		between = func(from, to, p float64) float64 { return from + (to-from)*p }
	}
	first := c.Peak / c.Start
	top, end, at := c.Warmup*float64(total)-1, float64(total-1), float64(step)
	if at <= top {
		return float32(between(first, c.Peak, progress(at, top)))
	}
	return float32(between(c.Peak, first/c.Final, progress(at-top, end-top)))
}

// progress is done/total within [0, 1]; nothing to do is done.
func progress(done, total float64) float64 {
	if total <= 0 {
		return 1
	}
	return min(max(done/total, 0), 1)
}

// anneal goes from one value to another along half a cosine.
func anneal(from, to, p float64) float64 {
	return to + (from-to)*(1+math.Cos(math.Pi*p))/2
}
