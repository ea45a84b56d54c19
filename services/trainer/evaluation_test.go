package trainer

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/dreamood/dreamood/internal/evaluation"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

func TestThin(t *testing.T) {
	for _, c := range []struct {
		values []float32
		n      int
		want   []float32
	}{
		{nil, 3, []float32{}},
		{[]float32{2, 1}, 3, []float32{1, 2}},
		{[]float32{3, 1, 2}, 3, []float32{1, 2, 3}},
		{[]float32{5, 4, 3, 2, 1}, 3, []float32{1, 3, 5}},
		{[]float32{4, 3, 2, 1}, 2, []float32{1, 4}},
		{[]float32{4, 3, 2, 1}, 1, []float32{1}},
	} {
		given := slices.Clone(c.values)
		if got := thin(c.values, c.n); !slices.Equal(got, c.want) || !slices.Equal(given, c.values) {
			t.Errorf("thin(%v, %d) = %v, want %v; the values are now %v", given, c.n, got, c.want, c.values)
		}
	}
}

// TestThinKeepsTheDistribution compares the share of values below any kept one, before and after.
func TestThinKeepsTheDistribution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float32Range(-9, 9), 2, 400).Draw(t, "values")
		n := rapid.IntRange(2, 50).Draw(t, "n")
		kept := thin(values, n)
		if len(kept) != min(n, len(values)) || !slices.IsSorted(kept) {
			t.Fatalf("%d kept of %d: %v", len(kept), len(values), kept)
		}
		if kept[0] != slices.Min(values) || kept[len(kept)-1] != slices.Max(values) {
			t.Fatalf("the ends are %g and %g", kept[0], kept[len(kept)-1])
		}
		for i, v := range kept {
			below, at := 0, 0
			for _, x := range values {
				switch {
				case x < v:
					below++
				case x == v:
					at++
				}
			}
			// The i-th of n lies at i/(n-1) of the sorted values, rounded down: less than one value off.
			want := float64(i) / float64(len(kept)-1) * float64(len(values)-1)
			if want < float64(below)-1e-9 || want >= float64(below+at)+1e-9 {
				t.Fatalf("value %d of %d, %g, has %d below and %d equal of %d; want it at %g", i, len(kept), v, below, at, len(values), want)
			}
		}
	})
}

func TestMerge(t *testing.T) {
	result := func(name string, auroc float64) *trainerv1.OODResult {
		return &trainerv1.OODResult{Name: name, Auroc: auroc}
	}
	evaluation := func(ids []float32, ood ...*trainerv1.OODResult) *trainerv1.Evaluation {
		return &trainerv1.Evaluation{IdScores: ids, IdCount: int32(len(ids)), IdAccuracy: float64(len(ids)), Ood: ood}
	}
	old := func() *trainerv1.Evaluation { return evaluation([]float32{1, 2}, result("a", 0.1), result("b", 0.2)) }
	for name, c := range map[string]struct{ old, new, want *trainerv1.Evaluation }{
		"the first": {nil, evaluation([]float32{1}, result("a", 1)), evaluation([]float32{1}, result("a", 1))},
		"another set is added, one measured again, one stays": {old(), evaluation([]float32{1, 2}, result("c", 0.3), result("b", 0.9)),
			evaluation([]float32{1, 2}, result("c", 0.3), result("b", 0.9), result("a", 0.1))},
		"other ID scores end old results": {old(), evaluation([]float32{1, 3}, result("c", 0.3)), evaluation([]float32{1, 3}, result("c", 0.3))},
		"other ID pictures, too":          {old(), evaluation([]float32{1, 2, 3}, result("c", 0.3)), evaluation([]float32{1, 2, 3}, result("c", 0.3))},
	} {
		d := &trainerv1.Detector{Evaluation: c.old}
		merge(d, c.new)
		if !proto.Equal(d.Evaluation, c.want) {
			t.Errorf("%s: %v, want %v", name, d.Evaluation, c.want)
		}
		// A finish that died before it could say so is done again.
		merge(d, proto.CloneOf(c.new))
		if !proto.Equal(d.Evaluation, c.want) {
			t.Errorf("%s, done twice: %v, want %v", name, d.Evaluation, c.want)
		}
	}
}

func TestEvaluationMessageThinsScores(t *testing.T) {
	m := &evaluation.Measured{Detector: evaluation.Detector{Score: "energy", Scores: []string{"energy"}, Classes: []string{"a", "b"}}}
	far := evaluation.Set{Name: "far", Scores: map[string][]float32{}}
	for i := range maxScores + 500 {
		far.Scores["energy"] = append(far.Scores["energy"], -float32(i))
	}
	m.ID.Scores = map[string][]float32{"energy": far.Scores["energy"]}
	m.OOD = []evaluation.Set{far}
	s := evaluation.Summary{ID: evaluation.IDResult{Count: maxScores + 500}, OOD: []evaluation.OODResult{{Name: "far"}}}
	s.OOD[0].OOD = maxScores + 500
	e := evaluationOf(m, s)
	if len(e.IdScores) != maxScores || e.IdCount != maxScores+500 || len(e.Ood[0].Scores) != maxScores || e.Ood[0].Count != maxScores+500 {
		t.Errorf("%d of %d ID scores, %d of %d OOD scores", len(e.IdScores), e.IdCount, len(e.Ood[0].Scores), e.Ood[0].Count)
	}
}
