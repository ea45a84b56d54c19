package sampler

import (
	"fmt"
	"math"
)

// What the warnings of a report hold to be too much.
const (
	tooFar     = 0.85 // of the way from the ID embeddings to random directions
	tooUnlike  = 0.2  // cosine to the source; random directions have 0.04 in 768 dimensions
	tooForeign = 0.5  // share nearest to another class
)

// Warnings says what a user should look at in a report, each with the remedy.
// The sigmas that it names are estimates; [Tune] finds exact ones.
func Warnings(method string, p Params, r Report) []string {
	if r.Sampled == 0 {
		return nil
	}
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	way := 0.0
	if r.NoiseLevel > r.ID.Median {
		way = (r.Picked.Median - r.ID.Median) / (r.NoiseLevel - r.ID.Median)
	}
	noisy := p.Sigma > 0
	inward := method == Inlier{}.Name()
	near := (r.ID.Max + r.NoiseLevel) / 2 // far out, and not lost
	if inward {
		near = r.ID.P25
	}
	switch {
	case way > tooFar || noisy && r.MeanCosineToSource < tooUnlike:
		warn("the samples are close to noise: their median distance %.3g is %.0f %% of the way from the ID embeddings (%.3g) to random directions (%.3g), their mean cosine to their source %.2f; %s",
			r.Picked.Median, 100*way, r.ID.Median, r.NoiseLevel, r.MeanCosineToSource,
			remedy(noisy, p, r, near, "lower"))
	case inward:
		if r.Picked.Median > r.ID.P95 {
			warn("the inliers lie outside of the class: their median distance %.3g is beyond the 95 %% quantile %.3g of the ID embeddings; %s",
				r.Picked.Median, r.ID.P95, remedy(noisy, p, r, near, "lower"))
		}
	case r.Picked.Median < r.ID.P95:
		warn("the samples are ID: their median distance %.3g is within the 95 %% quantile %.3g of the ID embeddings; %s",
			r.Picked.Median, r.ID.P95, remedy(noisy, p, r, r.ID.Max, "raise"))
	}
	if r.Compared > 0 && r.Foreign > tooForeign && r.Size > 0 {
		warn("%.0f %% of the samples lie nearer to another class than to their own; lower sigma, or look at whether the space separates the classes", 100*r.Foreign)
	}
	return out
}

// remedy names the sigma that would bring the median distance of the samples to
// about goal. A noisy copy with the cosine c = [CosineForSigma] to its source
// has the K-th cosine c·m + δ·√(1−c²): m is that of the source, and δ is what
// choosing among many noises gains, the same for every sigma. The samples tell δ.
func remedy(noisy bool, p Params, r Report, goal float64, direction string) string {
	switch {
	case noisy:
	case p.Steps > 0:
		return direction + " alpha or beyond"
	case p.Upper > 0:
		return direction + " the quantiles of the shell, lower and upper"
	default: // of more noises the least likely are less likely
		return direction + " noises"
	}
	m, c := 1-r.Boundary.Median/2, CosineForSigma(p.Sigma, r.Dim)
	gain := ((1 - r.Picked.Median/2) - c*m) / math.Sqrt(1-c*c)
	// With c = cos θ that is R·cos(θ−φ), R = √(m²+δ²), φ = atan2(δ, m), solved for θ.
	angle := math.Acos((1-goal/2)/math.Hypot(m, gain)) + math.Atan2(gain, m)
	sigma := math.NaN()
	if angle > 0 && angle < math.Pi/2 {
		sigma = SigmaForCosine(math.Cos(angle), r.Dim)
	}
	if sigma < p.Sigma && direction == "lower" || sigma > p.Sigma && direction == "raise" {
		return fmt.Sprintf("%s sigma from %.3g to about %.3g, or let it be found with --tune", direction, p.Sigma, sigma)
	}
	return fmt.Sprintf("%s sigma, which is %.3g now, or let it be found with --tune", direction, p.Sigma)
}
