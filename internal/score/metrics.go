package score

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Metrics say how well scores separate ID from OOD. Both conventions of FPR95
// are in use in the field, so both are given, by name.
type Metrics struct {
	AUROC            float64 `json:"auroc"`              // the same whichever is positive
	AUPRIn           float64 `json:"aupr_in"`            // average precision, ID positive
	AUPROut          float64 `json:"aupr_out"`           // average precision, OOD positive
	FPR95IDPositive  float64 `json:"fpr95_id_positive"`  // share of OOD accepted when 95 % of ID is (Dream-OOD)
	FPR95OODPositive float64 `json:"fpr95_ood_positive"` // share of ID rejected when 95 % of OOD is (OpenOOD, pytorch-ood)
	Threshold95      float64 `json:"threshold_95"`       // score from which on 95 % of ID is accepted
	ID               int     `json:"id"`                 // samples
	OOD              int     `json:"ood"`                // samples
}

// Evaluate measures ID against OOD scores. Equal scores are treated as
// scikit-learn's roc_curve and average_precision_score treat them. An empty
// side, or a score that is not finite, is an error.
func Evaluate(id, ood []float64) (Metrics, error) {
	t, err := newTable(id, ood)
	if err != nil {
		return Metrics{}, err
	}
	return t.metrics(), nil
}

// ThresholdAtRecall is the largest of the scores at which at least the given
// share of them, of (0, 1], is accepted (score ≥ threshold).
func ThresholdAtRecall(id []float64, recall float64) (float64, error) {
	if err := check("ID", id); err != nil {
		return 0, err
	}
	if !(recall > 0 && recall <= 1) {
		return 0, fmt.Errorf("recall is %v; it must be above 0 and at most 1", recall)
	}
	sorted := slices.Sorted(slices.Values(id))
	n := len(sorted)
	k := min(n, int(math.Ceil(recall*float64(n))))
	for k > 1 && float64(k-1)/float64(n) >= recall { // recall·n was rounded up
		k--
	}
	return sorted[n-k], nil
}

// check reports an empty side or the first score that is not finite.
func check(side string, scores []float64) error {
	if len(scores) == 0 {
		return fmt.Errorf("there are no %s scores", side)
	}
	for i, s := range scores {
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return fmt.Errorf("%s score %d is %v; scores must be finite", side, i, s)
		}
	}
	return nil
}

// tie is all samples of one score.
type tie struct {
	score   float64
	id, ood int
}

// table holds the samples by falling score.
type table []tie

func newTable(id, ood []float64) (table, error) {
	if err := check("ID", id); err != nil {
		return nil, err
	}
	if err := check("OOD", ood); err != nil {
		return nil, err
	}
	t := make(table, 0, len(id)+len(ood))
	for _, s := range id {
		t = append(t, tie{score: s, id: 1})
	}
	for _, s := range ood {
		t = append(t, tie{score: s, ood: 1})
	}
	slices.SortFunc(t, func(a, b tie) int { return cmp.Compare(b.score, a.score) })
	last := 0
	for _, x := range t[1:] {
		if x.score == t[last].score {
			t[last].id += x.id
			t[last].ood += x.ood
			continue
		}
		last++
		t[last] = x
	}
	return t[:last+1], nil
}

func (t table) metrics() Metrics {
	in := t.curve()
	out := t.turned().curve()
	return Metrics{
		AUROC: in.auroc, AUPRIn: in.precision, AUPROut: out.precision,
		FPR95IDPositive: in.fpr95, FPR95OODPositive: out.fpr95,
		Threshold95: in.threshold95, ID: in.positives, OOD: in.negatives,
	}
}

// turned is the table of the negated scores with OOD as ID.
func (t table) turned() table {
	out := make(table, len(t))
	for i, x := range t {
		out[len(t)-1-i] = tie{score: -x.score, id: x.ood, ood: x.id}
	}
	return out
}

// curve is one pass over a table with ID as the positive class.
type curve struct {
	auroc, precision, fpr95, threshold95 float64
	positives, negatives                 int
}

func (t table) curve() curve {
	c := curve{fpr95: -1}
	for _, x := range t {
		c.positives += x.id
		c.negatives += x.ood
	}
	pos, neg := float64(c.positives), float64(c.negatives)
	var tp, fp int
	var doubleArea, precision float64 // the first in samples², exact below 2^53
	for _, x := range t {
		doubleArea += float64(x.ood) * float64(2*tp+x.id)
		tp += x.id
		fp += x.ood
		if x.id > 0 {
			precision += float64(x.id) * (float64(tp) / float64(tp+fp))
		}
		if c.fpr95 < 0 && float64(tp)/pos >= 0.95 {
			c.fpr95, c.threshold95 = float64(fp)/neg, x.score
		}
	}
	c.auroc, c.precision = doubleArea/2/(pos*neg), precision/pos
	return c
}
