package train

import (
	"errors"
	"fmt"
	"math"
)

// Batch is the data of one step. Its sizes are those of the [Spec]: the first
// Batch rows are in-distribution, the Outliers rows after them are outliers.
type Batch struct {
	// Images [Batch+Outliers, 3, H, W] in [0, 1].
	Images []float32
	// Labels [Batch], each in [0, C). Either these or Targets are given.
	Labels []int
	// Targets [Batch, C]: soft labels, rows sum to 1.
	Targets []float32
	// Weights [Batch] of the rows in the cross-entropy; nil is 1 for all. A
	// batch that is not full repeats rows with weight 0.
	Weights []float32
}

// fill checks a batch and copies it into the input tensors.
func (t *Trainer) fill(batch Batch, rate float32) error {
	s, c := t.spec, t.spec.Head.Classes()
	var errs []error
	count := func(what string, got, want int) bool {
		if got != want {
			errs = append(errs, fmt.Errorf("batch: %d %s, want %d", got, what, want))
		}
		return got == want
	}
	count("picture values", len(batch.Images), (s.Batch+s.Outliers)*3*s.Height*s.Width)
	switch {
	case (batch.Labels == nil) == (batch.Targets == nil):
		errs = append(errs, errors.New("batch: give either labels or targets"))
	case batch.Labels != nil:
		if count("labels", len(batch.Labels), s.Batch) {
			errs = append(errs, t.oneHot(batch.Labels))
		}
	case count("target values", len(batch.Targets), s.Batch*c):
		errs = append(errs, checkTargets(batch.Targets, c))
		copy(t.in[inTargets].Float32(), batch.Targets)
	}
	if batch.Weights != nil && count("weights", len(batch.Weights), s.Batch) {
		for i, w := range batch.Weights {
			if !(w >= 0) || math.IsInf(float64(w), 0) {
				errs = append(errs, fmt.Errorf("batch: weight %d is %g; weights are finite and not negative", i, w))
				break
			}
		}
	}
	if !(rate >= 0) || math.IsInf(float64(rate), 0) {
		errs = append(errs, fmt.Errorf("learning rate %g: it must be finite and not negative", rate))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	copy(t.in[inImages].Float32(), batch.Images)
	t.in[inRate].Float32()[0] = rate
	weights := t.in[inWeights].Float32()
	if copy(weights, batch.Weights) == 0 {
		for i := range weights {
			weights[i] = 1
		}
	}
	return nil
}

// oneHot writes labels as targets, smoothed as the spec says.
func (t *Trainer) oneHot(labels []int) error {
	c := t.spec.Head.Classes()
	targets, smooth := t.in[inTargets].Float32(), t.spec.LabelSmoothing
	for i, y := range labels {
		if y < 0 || y >= c {
			return fmt.Errorf("batch: label %d of row %d; there are %d classes", y, i, c)
		}
		row := targets[i*c : (i+1)*c]
		for j := range row {
			row[j] = smooth / float32(c)
		}
		row[y] += 1 - smooth
	}
	return nil
}

// checkTargets wants rows of probabilities; the tolerance allows for rounding
// in sums of up to some thousand classes.
func checkTargets(targets []float32, classes int) error {
	for i := 0; i < len(targets); i += classes {
		sum := 0.0
		for _, v := range targets[i : i+classes] {
			if !(v >= 0) {
				return fmt.Errorf("batch: the targets of row %d hold %g; they are not negative", i/classes, v)
			}
			sum += float64(v)
		}
		if math.Abs(sum-1) > 1e-3 {
			return fmt.Errorf("batch: the targets of row %d sum to %g, want 1", i/classes, sum)
		}
	}
	return nil
}
