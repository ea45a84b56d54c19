// Package evaluation measures detectors: the scores of every test picture, the figures computed from them with their
// intervals, the comparison with an earlier measurement, and the conditions under which a CI job refuses a detector.
//
// What was measured is kept as a folder or a zip archive of NumPy files (see Write), so that any other program can compute
// the same figures, and so that two detectors can be compared picture by picture later.
package evaluation

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/score"
)

// Groups of OOD sets that have a mean of their own; All is the mean over all sets.
const (
	All  = "all"
	Near = "near"
	Far  = "far"
)

// Detector is what is measured.
type Detector struct {
	Name      string   `json:"name"`
	Method    string   `json:"method,omitempty"` // "plain" or "dream-ood"
	Set       string   `json:"outliers,omitempty"`
	Model     string   `json:"model,omitempty"` // blob reference
	Classes   []string `json:"classes"`
	Score     string   `json:"score"`     // that decides
	Threshold float64  `json:"threshold"` // pictures that score below are refused
	Scores    []string `json:"scores"`    // outputs of the model
	Seed      uint64   `json:"seed,omitempty"`
}

// Named is an opened dataset with the name that it has in results.
type Named struct {
	Name, Group string
	Data        *dataset.Dataset
}

// Set is what a detector says of the pictures of one dataset.
type Set struct {
	Name       string
	Group      string               // of an OOD set: Near, Far or ""
	Files      []string             // [N] paths inside of the dataset
	Scores     map[string][]float32 // by score, [N]
	Features   []float32            // [N, D]; nil where they were not kept
	Labels     []int                // [N]; nil for an OOD set
	Predicted  []int                // [N]
	Confidence []float32            // [N] softmax probability of the predicted class
	Mistakes   []Mistake            // the worst ones
}

// Len is the number of pictures.
func (s Set) Len() int { return len(s.Predicted) }

// Mistake is a picture that the detector gets wrong.
type Mistake struct {
	Kind      string  `json:"kind"` // "accepted" OOD, "refused" ID, "misclassified" ID
	File      string  `json:"file"`
	Class     string  `json:"class,omitempty"` // the right one, of ID pictures
	Predicted string  `json:"predicted"`
	Score     float32 `json:"score"`
	Picture   string  `json:"picture"` // PNG beside the scores
	PNG       []byte  `json:"-"`
}

// Measured is all that a detector says of all test pictures.
type Measured struct {
	Detector Detector
	ID       Set
	OOD      []Set
	Shifted  []Set
}

// Input are the test pictures. The labels of ID and shifted pictures are the detector's.
type Input struct {
	ID           *dataset.Dataset
	OOD, Shifted []Named
	KeepFeatures bool
}

// mistakes kept of one kind and set.
const mistakes = 12

// Measure runs a detector on test pictures. report, when not nil, is told what is measured.
func Measure(ctx context.Context, m *infer.Model, d Detector, in Input, report func(string)) (*Measured, error) {
	if len(d.Scores) == 0 || !slices.Contains(d.Scores, d.Score) {
		return nil, fmt.Errorf("measure %s: the score that decides, %q, is not among those of the model, %v", d.Name, d.Score, d.Scores)
	}
	out := &Measured{Detector: d}
	look := func(name, group string, ds *dataset.Dataset, labelled bool) (Set, error) {
		if report != nil {
			report("measuring on " + name)
		}
		s, err := measure(ctx, m, d, ds, labelled, in.KeepFeatures)
		s.Name, s.Group = name, group
		if err != nil {
			return s, fmt.Errorf("measure %s on %s: %w", d.Name, name, err)
		}
		return s, nil
	}
	var err error
	if out.ID, err = look(in.ID.Name, "", in.ID, true); err != nil {
		return nil, err
	}
	for _, set := range in.OOD {
		s, err := look(set.Name, set.Group, set.Data, false)
		if err != nil {
			return nil, err
		}
		out.OOD = append(out.OOD, s)
	}
	for _, set := range in.Shifted {
		s, err := look(set.Name, "", set.Data, true)
		if err != nil {
			return nil, err
		}
		out.Shifted = append(out.Shifted, s)
	}
	return out, nil
}

func measure(ctx context.Context, m *infer.Model, d Detector, ds *dataset.Dataset, labelled, features bool) (Set, error) {
	outputs := append([]string{"logits"}, d.Scores...)
	if features && m.Has("features") {
		outputs = append(outputs, "features")
	}
	r, err := m.Dataset(ctx, ds, nil, outputs...)
	if err != nil {
		return Set{}, err
	}
	s := Set{Files: ds.Files, Scores: map[string][]float32{}, Features: r["features"]}
	for _, name := range d.Scores {
		if i := slices.IndexFunc(r[name], func(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) }); i >= 0 {
			return s, fmt.Errorf("the score %s of picture %d (%s) is %g", name, i, fileOf(ds, i), r[name][i])
		}
		s.Scores[name] = r[name]
	}
	c := len(d.Classes)
	if len(r["logits"]) != c*ds.Len() {
		return s, fmt.Errorf("the model gives %d logits for %d pictures, its metadata names %d classes", len(r["logits"]), ds.Len(), c)
	}
	for i := range ds.Len() {
		class, p := decide(r["logits"][i*c : (i+1)*c])
		s.Predicted, s.Confidence = append(s.Predicted, class), append(s.Confidence, p)
		if labelled {
			s.Labels = append(s.Labels, int(ds.Labels[i]))
		}
	}
	return s, s.collect(d, ds)
}

// decide is the likeliest class and its softmax probability.
func decide(logits []float32) (int, float32) {
	return slices.Index(logits, slices.Max(logits)), float32(score.MSP(logits))
}

func fileOf(ds *dataset.Dataset, i int) string {
	if i < len(ds.Files) {
		return ds.Files[i]
	}
	return fmt.Sprint("picture ", i)
}

// collect takes the worst mistakes with their pictures.
func (s *Set) collect(d Detector, ds *dataset.Dataset) error {
	scores := s.Scores[d.Score]
	take := func(kind string, wrong func(i int) bool, worse func(a, b int) bool) error {
		var at []int
		for i := range scores {
			if wrong(i) {
				at = append(at, i)
			}
		}
		slices.SortStableFunc(at, func(a, b int) int {
			switch {
			case worse(a, b):
				return -1
			case worse(b, a):
				return 1
			}
			return 0
		})
		for _, i := range at[:min(mistakes, len(at))] {
			png, err := dataset.EncodePNG(ds.Image(i), ds.Size)
			if err != nil {
				return fmt.Errorf("keep the picture of a mistake: %w", err)
			}
			m := Mistake{Kind: kind, File: fileOf(ds, i), Predicted: d.Classes[s.Predicted[i]], Score: scores[i], PNG: png}
			if s.Labels != nil {
				m.Class = d.Classes[s.Labels[i]]
			}
			m.Picture = fmt.Sprintf("mistakes/%s-%02d.png", kind, len(s.Mistakes))
			s.Mistakes = append(s.Mistakes, m)
		}
		return nil
	}
	in := func(i int) bool { return float64(scores[i]) >= d.Threshold }
	if s.Labels == nil {
		return take("accepted", in, func(a, b int) bool { return scores[a] > scores[b] })
	}
	err := take("refused", func(i int) bool { return !in(i) }, func(a, b int) bool { return scores[a] < scores[b] })
	if err != nil {
		return err
	}
	return take("misclassified", func(i int) bool { return in(i) && s.Predicted[i] != s.Labels[i] },
		func(a, b int) bool { return s.Confidence[a] > s.Confidence[b] })
}
