package train

import "math"

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
