package sampler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Goal is what [Tune] brings the samples to.
type Goal struct {
	Kind  GoalKind
	Value float64
}

// GoalKind is the measure of a goal.
type GoalKind string

// The kinds of goals. Sigma raises both distances and lowers the cosine.
const (
	ByQuantile GoalKind = "quantile" // median K-th distance, as a quantile of the ID K-th distances of the class, of (0, 1)
	ByDistance GoalKind = "distance" // median K-th distance itself, of (0, 4)
	ByCosine   GoalKind = "cosine"   // mean cosine to the anchor, of (−1, 1)
)

// ParseGoal reads "0.99" or "quantile=0.99", "distance=1.6", "cosine=0.4".
func ParseGoal(text string) (Goal, error) {
	kind, value, named := strings.Cut(text, "=")
	if !named {
		kind, value = string(ByQuantile), text
	}
	v, err := strconv.ParseFloat(value, 64)
	g := Goal{GoalKind(kind), v}
	bounds, known := map[GoalKind][2]float64{ByQuantile: {0, 1}, ByDistance: {0, 4}, ByCosine: {-1, 1}}[g.Kind]
	switch {
	case !known || err != nil:
		return Goal{}, fmt.Errorf("%q is no goal; want a quantile of the ID distances such as 0.99, distance=1.6, or cosine=0.4", text)
	case !(v > bounds[0] && v < bounds[1]):
		return Goal{}, fmt.Errorf("%q is out of range; a %s lies between %g and %g", text, g.Kind, bounds[0], bounds[1])
	}
	return g, nil
}

// Subject is a class that sigma is tuned on, and which of its samples are looked at.
type Subject struct {
	Input  Input
	Params Params // but for Sigma
	Range  Range
}

// Trial is one sigma that was tried.
type Trial struct {
	Sigma        float64 `json:"sigma"`
	Measure      float64 `json:"measure"` // what the goal is about: a distance relative to the goal's for quantiles, else as the goal
	Distance     float64 `json:"median_kth_distance"`
	Quantile     float64 `json:"id_quantile"` // median share of the ID distances of the class that are no larger than the sample's
	SourceCosine float64 `json:"mean_source_cosine"`
	AnchorCosine float64 `json:"mean_anchor_cosine"`
}

// Tuning is the sigma found and how.
type Tuning struct {
	Sigma  float64 `json:"sigma"`
	Trials []Trial `json:"trials"` // in the order in which they were made
}

// sigmaPrecision is how close the two last sigmas of a bisection are.
const sigmaPrecision = 1.001

// Tune finds the sigma at which the samples of a method meet a goal, by
// bisection on the logarithm of sigma. Every trial draws the same random
// numbers, so the result depends on the input alone, and the measure changes
// with sigma only. Of several classes the median (or mean) over all samples
// counts. A goal that no sigma meets is an error that says what can be met.
func Tune(ctx context.Context, m Method, subjects []Subject, g Goal) (Tuning, error) {
	if m.Defaults().Sigma == 0 {
		return Tuning{}, fmt.Errorf("the method %s adds no noise, so there is no sigma to tune", m.Name())
	}
	if len(subjects) == 0 {
		return Tuning{}, errors.New("there is no class to tune sigma on")
	}
	if g.Kind == ByCosine && slices.ContainsFunc(subjects, func(s Subject) bool { return s.Range.Anchor == nil }) {
		return Tuning{}, errors.New("a cosine to the anchor needs the anchors")
	}
	t := tuner{method: m, subjects: subjects, goal: g}
	dim := subjects[0].Input.Bank.Cols
	small, large := SigmaForCosine(0.9999, dim), SigmaForCosine(0.05, dim)
	low, err := t.try(ctx, small)
	if err != nil {
		return Tuning{}, err
	}
	high, err := t.try(ctx, large)
	if err != nil {
		return Tuning{}, err
	}
	if low > 0 || high < 0 {
		return Tuning{}, t.unreachable()
	}
	for large/small > sigmaPrecision {
		middle := math.Sqrt(small * large)
		v, err := t.try(ctx, middle)
		if err != nil {
			return Tuning{}, err
		}
		if v < 0 {
			small, low = middle, v
		} else {
			large, high = middle, v
		}
	}
	sigma := small
	if high < -low {
		sigma = large
	}
	return Tuning{Sigma: sigma, Trials: t.trials}, nil
}

// tuner makes trials.
type tuner struct {
	method   Method
	subjects []Subject
	goal     Goal
	trials   []Trial
}

// try samples with a sigma and returns how far beyond the goal the samples are:
// a number that rises with sigma and is zero at the goal.
func (t *tuner) try(ctx context.Context, sigma float64) (float64, error) {
	var distances, quantiles, excess []float32
	trial := Trial{Sigma: sigma}
	for _, s := range t.subjects {
		p := s.Params
		p.Sigma = sigma
		sampler, err := t.method.Prepare(ctx, s.Input, p)
		if err != nil {
			return 0, err
		}
		id := slices.Sorted(slices.Values(sampler.Boundary().KthDistances))
		wanted := 0.0
		if t.goal.Kind == ByQuantile {
			wanted = quantile(id, t.goal.Value)
		}
		err = sampler.Sample(ctx, s.Range, func(o Outlier) error {
			within, _ := slices.BinarySearch(id, math.Nextafter32(o.KthDistance, 5))
			distances = append(distances, o.KthDistance)
			quantiles = append(quantiles, float32(within)/float32(len(id)))
			excess = append(excess, o.KthDistance-float32(wanted))
			trial.SourceCosine += float64(o.CosineToSource)
			trial.AnchorCosine += float64(o.CosineToAnchor)
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	n := float64(len(distances))
	trial.SourceCosine, trial.AnchorCosine = trial.SourceCosine/n, trial.AnchorCosine/n
	trial.Distance, trial.Quantile = median(distances), median(quantiles)
	beyond := 0.0
	switch t.goal.Kind {
	case ByCosine:
		trial.Measure = trial.AnchorCosine
		beyond = t.goal.Value - trial.Measure
	case ByDistance:
		trial.Measure = trial.Distance
		beyond = trial.Measure - t.goal.Value
	default:
		trial.Measure = median(excess)
		beyond = trial.Measure
	}
	t.trials = append(t.trials, trial)
	return beyond, nil
}

// unreachable says which goals can be met, after trials at both ends.
func (t *tuner) unreachable() error {
	still, far := t.trials[0], t.trials[1]
	switch t.goal.Kind {
	case ByCosine:
		return fmt.Errorf("no sigma brings the mean cosine to the anchor to %g: it is %.3f where there is hardly any noise and %.3f where there is hardly anything else; ask for a cosine between them",
			t.goal.Value, still.AnchorCosine, far.AnchorCosine)
	case ByDistance:
		return fmt.Errorf("no sigma brings the median distance to %g: it is %.3g where there is hardly any noise, because samples start at the boundary, and %.3g where there is hardly anything else; ask for a distance between them",
			t.goal.Value, still.Distance, far.Distance)
	}
	return fmt.Errorf("no sigma brings the median distance to the quantile %g of the ID distances: it is at quantile %.3g (distance %.3g) where there is hardly any noise, because samples start at the boundary; ask for a higher quantile or a distance, or select more boundary points",
		t.goal.Value, still.Quantile, still.Distance)
}

func median(values []float32) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return quantile(slices.Sorted(slices.Values(values)), 0.5)
}
