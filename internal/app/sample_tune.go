package app

import (
	"context"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/services/sampler"
)

// What sigma is tuned on: so many classes at most, evenly spaced, and samples of each.
const (
	tunedClasses = 8
	tunedSamples = 200
)

// tune finds sigma for all classes together.
func (p *plan) tune(ctx context.Context, in *inputs) (*sampler.Tuning, error) {
	n := min(tunedClasses, len(p.classes))
	subjects := make([]sampler.Subject, n)
	for i := range subjects {
		input, r, err := p.input(ctx, in, i*len(p.classes)/n)
		if err != nil {
			return nil, err
		}
		r.Count = min(r.Count, tunedSamples)
		subjects[i] = sampler.Subject{Input: input, Params: p.params[i*len(p.classes)/n], Range: r}
	}
	t, err := sampler.Tune(ctx, p.method, subjects, *p.goal)
	if err = sampler.Violations(err); err != nil && len(violationsOf(err)) == 0 && ctx.Err() == nil {
		return nil, fault.Invalid("--tune", "%w", err)
	}
	return &t, err
}
