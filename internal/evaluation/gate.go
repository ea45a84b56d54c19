package evaluation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/score"
)

// Verdict is what came of a condition.
type Verdict struct {
	Condition string  `json:"condition"`
	Fails     bool    `json:"fails"`    // the condition holds, so the detector is refused
	Value     float64 `json:"value"`    // of the detector
	Bound     float64 `json:"bound"`    // that it is compared with
	Baseline  float64 `json:"baseline"` // of the baseline, where the bound is relative to it
	Relative  bool    `json:"relative"`
	// Difference is the 90 % interval of value − baseline, and Chance the share of resamples in which the condition
	// does not hold; below 0.05 it counts as significant. Of relative bounds alone.
	Difference score.Interval `json:"difference"`
	Chance     float64        `json:"chance"`
	Paired     bool           `json:"paired"` // both were measured on the same pictures
}

// significance is the share of resamples in which a relative condition may not hold: a one-sided test at 5 %.
const significance = 0.05

// Check tells for every condition whether it holds. baseline may be nil when none is relative. Whatever cannot be computed,
// such as a set that was not measured, is an error that names all conditions at fault, before any resampling.
func Check(ctx context.Context, conditions []Condition, m, baseline *Measured) ([]Verdict, error) {
	own, err := newFigures(m)
	if err != nil {
		return nil, err
	}
	var other *figures
	if baseline != nil {
		if other, err = newFigures(baseline); err != nil {
			return nil, fmt.Errorf("baseline: %w", err)
		}
	}
	var errs []error
	verdicts := make([]Verdict, len(conditions))
	for i, c := range conditions {
		v := Verdict{Condition: c.Text, Relative: c.Relative, Bound: c.Number}
		if v.Value, err = own.value(c, nil); err != nil {
			errs = append(errs, err)
			continue
		}
		if c.Relative && other == nil {
			errs = append(errs, fmt.Errorf("%q compares with a baseline, and there is none; name it with --baseline", c.Text))
			continue
		}
		if c.Relative {
			if err := Comparable(c, m, baseline); err != nil {
				errs = append(errs, err)
				continue
			}
			if v.Baseline, err = other.value(c, nil); err != nil {
				errs = append(errs, fmt.Errorf("baseline: %w", err))
				continue
			}
			v.Bound += v.Baseline
		}
		v.Fails = c.holds(v.Value, v.Bound)
		verdicts[i] = v
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(conditions, func(c Condition) bool { return c.Relative }) {
		return verdicts, nil
	}
	return verdicts, resampled(ctx, conditions, verdicts, own, other)
}

// Comparable returns an error when a condition's metric is a mean over sets, and the two detectors were measured on
// different ones, or when one of them was not measured on the set at all.
func Comparable(c Condition, m, baseline *Measured) error {
	if slices.Contains(idMetrics, c.Metric) && c.Set == "" {
		return nil
	}
	over := func(m *Measured) []string {
		var names []string
		if slices.Contains(idMetrics, c.Metric) {
			for _, set := range m.Shifted {
				if c.Set == "shifted" || c.Set == set.Name {
					names = append(names, set.Name)
				}
			}
		} else {
			for _, set := range m.OOD {
				if c.covers(set) {
					names = append(names, set.Name)
				}
			}
		}
		slices.Sort(names)
		return names
	}
	own, other := over(m), over(baseline)
	if slices.Equal(own, other) && len(own) > 0 {
		return nil
	}
	return fmt.Errorf("%q: the detector was measured on [%s], the baseline on [%s]; measure the baseline on the same sets, or name a set that both have",
		c.Text, strings.Join(own, ", "), strings.Join(other, ", "))
}

// covers says whether a condition looks at an OOD set.
func (c Condition) covers(set Set) bool {
	return c.Set == "" || c.Set == All || c.Set == set.Group || c.Set == set.Name
}

// resampled decides the relative conditions: each resample draws the pictures once for both detectors where they were
// measured on the same ones, and anew for the baseline where they were not.
func resampled(ctx context.Context, conditions []Condition, verdicts []Verdict, own, other *figures) error {
	paired := samePictures(own.m, other.m)
	differences := make([][]float64, len(conditions))
	spared := make([]int, len(conditions))
	for r := range uint64(Resamples) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a, again := own.draw(r), r
		if !paired {
			again += Resamples
		}
		b := other.draw(again)
		for i, c := range conditions {
			if !c.Relative {
				continue
			}
			x, err := own.value(c, &a)
			if err != nil {
				return err
			}
			y, err := other.value(c, &b)
			if err != nil {
				return err
			}
			differences[i] = append(differences[i], x-y)
			if !c.holds(x, y+c.Number) {
				spared[i]++
			}
		}
	}
	for i, c := range conditions {
		if !c.Relative {
			continue
		}
		v := &verdicts[i]
		v.Paired = paired
		v.Difference = score.Middle(differences[i], 1-2*significance)
		v.Chance = float64(spared[i]) / Resamples
		v.Fails = v.Fails && v.Chance < significance
	}
	return nil
}

// samePictures says whether two detectors were measured on the same ID pictures and, of the OOD and shifted sets that
// both have, on the same ones.
func samePictures(a, b *Measured) bool {
	same := func(x, y Set) bool { return x.Len() == y.Len() && slices.Equal(x.Files, y.Files) }
	if !same(a.ID, b.ID) {
		return false
	}
	for _, pair := range [][2][]Set{{a.OOD, b.OOD}, {a.Shifted, b.Shifted}} {
		for _, x := range pair[0] {
			if k := slices.IndexFunc(pair[1], func(y Set) bool { return y.Name == x.Name }); k >= 0 && !same(x, pair[1][k]) {
				return false
			}
		}
	}
	return true
}

// value is the metric that a condition looks at, on drawn pictures or, with nil, on all of them once.
func (f *figures) value(c Condition, d *drawn) (float64, error) {
	if j := slices.Index(oodMetrics, c.Metric); j >= 0 {
		return f.against(c, j, d)
	}
	var id []int32
	if d != nil {
		id = d.id
	}
	switch c.Metric {
	case "ece":
		if d != nil {
			return score.ECE(pick(f.m.ID.Confidence, id), pick(f.right, id))
		}
		return score.ECE(f.m.ID.Confidence, f.right)
	case "refused":
		refused := make([]bool, f.m.ID.Len())
		for i, v := range f.m.ID.Scores[f.m.Detector.Score] {
			refused[i] = float64(v) < f.m.Detector.Threshold
		}
		return share(refused, id), nil
	}
	if c.Set == "" {
		return share(f.right, id), nil
	}
	return f.shifted(c, d)
}

// against is the mean of an OOD metric over the sets that a condition names.
func (f *figures) against(c Condition, j int, d *drawn) (float64, error) {
	var sum float64
	n := 0
	for k, set := range f.m.OOD {
		if !c.covers(set) {
			continue
		}
		metrics := f.samples[k].Metrics
		if d != nil {
			metrics = func() score.Metrics { return f.samples[k].Resampled(d.id, d.ood[k]) }
		}
		sum += five(metrics())[j]
		n++
	}
	if n == 0 {
		return 0, fmt.Errorf("%q: no OOD set was measured that is called or grouped %q; there are %s", c.Text, cmp.Or(c.Set, All), namesOf(f.m.OOD))
	}
	return sum / float64(n), nil
}

// shifted is the mean accuracy on the shifted sets that a condition names; the pictures of each are drawn anew.
func (f *figures) shifted(c Condition, d *drawn) (float64, error) {
	var sum float64
	n := 0
	for k, set := range f.m.Shifted {
		if c.Set != "shifted" && c.Set != set.Name {
			continue
		}
		right := set.right()
		var counts []int32
		if d != nil {
			counts = d.shifted[k]
		}
		sum += share(right, counts)
		n++
	}
	if n == 0 {
		return 0, fmt.Errorf("%q: no shifted set was measured that is called %q; there are %s", c.Text, c.Set, namesOf(f.m.Shifted))
	}
	return sum / float64(n), nil
}

// pick repeats values as often as they were drawn.
func pick[T any](values []T, counts []int32) []T {
	out := make([]T, 0, len(values))
	for i, v := range values {
		for range counts[i] {
			out = append(out, v)
		}
	}
	return out
}

func namesOf(sets []Set) string {
	var names []string
	for _, s := range sets {
		names = append(names, s.Name)
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}
