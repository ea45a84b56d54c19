package trainer

import (
	"context"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/score"
)

// Evaluation is how a detector does on ID test pictures and OOD sets.
type Evaluation struct {
	Accuracy float64
	IDScores []float64 // of the ID test pictures
	OOD      []Result
}

// Result is how it does against one OOD set.
type Result struct {
	Name    string
	Metrics score.Metrics
	Scores  []float64
	ROC     []score.ROCPoint
}

// rocPoints bounds the points of a ROC curve that are kept.
const rocPoints = 200

// Named is an opened OOD set with the name that it has in results.
type Named struct {
	Name string
	Data *dataset.Dataset
}

// Evaluate measures a detector whose outputs are logits and energy. The labels of test must be the detector's.
func Evaluate(ctx context.Context, m *infer.Model, test *dataset.Dataset, sets []Named, report func(string)) (Evaluation, error) {
	report("measuring on " + test.Name)
	r, err := m.Dataset(ctx, test, nil, "logits", scoreName)
	if err != nil {
		return Evaluation{}, err
	}
	logits, err := matrix.Of(r["logits"], len(r["logits"])/test.Len())
	if err != nil {
		return Evaluation{}, err
	}
	e := Evaluation{IDScores: widen(r[scoreName])}
	labels := make([]int, test.Len())
	for i, y := range test.Labels {
		labels[i] = int(y)
	}
	if e.Accuracy, err = score.Accuracy(logits, labels); err != nil {
		return Evaluation{}, err
	}
	for _, set := range sets {
		report("measuring on " + set.Name)
		r, err := m.Dataset(ctx, set.Data, nil, scoreName)
		if err != nil {
			return Evaluation{}, fmt.Errorf("OOD set %q: %w", set.Name, err)
		}
		result := Result{Name: set.Name, Scores: widen(r[scoreName])}
		if result.Metrics, err = score.Evaluate(e.IDScores, result.Scores); err != nil {
			return Evaluation{}, fmt.Errorf("OOD set %q: %w", set.Name, err)
		}
		if result.ROC, err = score.ROC(e.IDScores, result.Scores, rocPoints); err != nil {
			return Evaluation{}, fmt.Errorf("OOD set %q: %w", set.Name, err)
		}
		e.OOD = append(e.OOD, result)
	}
	return e, nil
}

// thin keeps at most n values, evenly spread over the sorted ones.
func thin(values []float64, n int) []float32 {
	s := slices.Sorted(slices.Values(values))
	if len(s) <= n {
		n = len(s)
	}
	out := make([]float32, n)
	for i := range out {
		at := i
		if n > 1 {
			at = i * (len(s) - 1) / (n - 1)
		}
		out[i] = float32(s[at])
	}
	return out
}
