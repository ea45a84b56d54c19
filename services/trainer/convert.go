package trainer

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/score"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

func (s Settings) message() *trainerv1.DetectorTraining {
	t := &trainerv1.DetectorTraining{
		Epochs: int32(s.Epochs), BatchSize: int32(s.Batch), OutlierBatchSize: int32(s.OutlierBatch), LearningRate: s.Rate,
		Width: int32(s.Width), Beta: s.Beta, Seed: s.Seed, TargetRecall: s.Recall, Score: s.Score,
		Method: s.Method, Hidden: int32(s.Hidden), SingularWeight: s.SingularWeight, ConditionNumber: s.ConditionNumber,
		OutlierResize: s.OutlierResize, CodecShare: s.CodecShare, CodecModel: s.CodecModel, Augmentation: augmentationOf(s.Augment),
	}
	s.Engine.set(t)
	return t
}

func (c Calibrated) message() *trainerv1.DetectorScore {
	m := &trainerv1.DetectorScore{Name: c.Name, Threshold: c.Threshold, Refused: c.Refused}
	for _, n := range c.Bins {
		m.Bins = append(m.Bins, int32(n))
	}
	for _, q := range c.Quantiles {
		m.Quantiles = append(m.Quantiles, float32(q))
	}
	return m
}

// referenceOf is the calibration of the score that decides.
func referenceOf(d *trainerv1.Detector) reference {
	var r reference
	for _, s := range d.Scores {
		if s.Name != d.Score || len(s.Quantiles) < 3 {
			continue
		}
		r.edges, r.expected = score.Widen(s.Quantiles[1:len(s.Quantiles)-1]), s.Refused
		for _, n := range s.Bins {
			r.bins = append(r.bins, int(n))
		}
	}
	return r
}

// evaluationOf is a measurement and its figures as a message.
func evaluationOf(m *evaluation.Measured, s evaluation.Summary) *trainerv1.Evaluation {
	decides := m.Detector.Score
	out := &trainerv1.Evaluation{
		IdAccuracy: s.ID.Accuracy, IdCount: int32(s.ID.Count), IdScores: thin(m.ID.Scores[decides], maxScores), Ece: s.ID.ECE,
		IdAccuracyInterval: intervalOf(s.ID.Interval), ShiftedAccuracy: s.ShiftedAccuracy,
	}
	for k, r := range s.OOD {
		o := &trainerv1.OODResult{
			Name: r.Name, Group: r.Group, Count: int32(r.OOD), Auroc: r.AUROC, AuprIn: r.AUPRIn, AuprOut: r.AUPROut,
			Fpr95: r.FPR95IDPositive, Fpr95OodPositive: r.FPR95OODPositive, Scores: thin(m.OOD[k].Scores[decides], maxScores),
			AurocInterval: intervalOf(r.Intervals.AUROC), Fpr95Interval: intervalOf(r.Intervals.FPR95IDPositive), Accepted: r.Accepted,
		}
		for _, p := range r.ROC {
			o.RocFpr, o.RocTpr = append(o.RocFpr, float32(p.FPR)), append(o.RocTpr, float32(p.TPR))
		}
		for _, name := range m.Detector.Scores {
			b := r.ByScore[name]
			o.ByScore = append(o.ByScore, &trainerv1.ScoreResult{Score: name, Auroc: b.AUROC, AuprIn: b.AUPRIn, AuprOut: b.AUPROut,
				Fpr95: b.FPR95IDPositive, Fpr95OodPositive: b.FPR95OODPositive})
		}
		out.Ood = append(out.Ood, o)
	}
	for _, a := range s.Averages {
		out.Averages = append(out.Averages, &trainerv1.OODAverage{
			Group: a.Group, Sets: int32(a.Sets), Auroc: a.AUROC, AuprIn: a.AUPRIn, AuprOut: a.AUPROut, Fpr95: a.FPR95IDPositive,
			Fpr95OodPositive: a.FPR95OODPositive, AurocInterval: intervalOf(a.Intervals.AUROC), Fpr95Interval: intervalOf(a.Intervals.FPR95IDPositive),
		})
	}
	for _, r := range s.Shifted {
		out.Shifted = append(out.Shifted, &trainerv1.ShiftedResult{Name: r.Name, Count: int32(r.Count), Accuracy: r.Accuracy, Accepted: r.Accepted})
	}
	return out
}

func intervalOf(i score.Interval) *trainerv1.Interval {
	return &trainerv1.Interval{Low: i.Low, High: i.High}
}

// measuredDetector is a detector as measurements name it.
func measuredDetector(d *trainerv1.Detector) evaluation.Detector {
	out := evaluation.Detector{
		Name: d.Name, Method: d.Method, Set: d.Set, Model: d.Model, Classes: d.Classes, Score: d.Score, Threshold: d.Threshold,
		Seed: d.Training.GetSeed(),
	}
	for _, s := range d.Scores {
		out.Scores = append(out.Scores, s.Name)
	}
	if len(out.Scores) == 0 { // made before detectors had several
		out.Scores = []string{d.Score}
	}
	return out
}

// message is the drift of a window as a message; nil where nothing was scored.
func (w Window) message() *trainerv1.Drift {
	if w.Size == 0 {
		return nil
	}
	return &trainerv1.Drift{
		Window: int32(w.Size), Scored: w.Scored, Refused: w.Refused, Expected: w.Expected, Psi: w.Shift.PSI, Ks: w.Shift.KS,
		PValue: math.Min(w.Shift.PValue, 1),
	}
}

// merge puts a new evaluation into a detector. Results against other OOD sets stay only when they were measured with
// the same ID scores, because every metric compares with these.
func merge(d *trainerv1.Detector, e *trainerv1.Evaluation) {
	old := d.Evaluation
	d.Evaluation = e
	if old == nil || !slices.Equal(old.IdScores, e.IdScores) || old.IdCount != e.IdCount {
		return
	}
	for _, r := range old.Ood {
		if !slices.ContainsFunc(e.Ood, func(n *trainerv1.OODResult) bool { return n.Name == r.Name }) {
			e.Ood = append(e.Ood, proto.CloneOf(r))
		}
	}
}

// decisionOf is how a detector decides.
func decisionOf(d *trainerv1.Detector) Decision {
	return Decision{Classes: len(d.Classes), Score: d.Score, Threshold: d.Threshold}
}

// wantedScores are the scores of a detector that a request names; "all" are all of them.
func wantedScores(d *trainerv1.Detector, wanted []string) ([]string, error) {
	var has []string
	for _, s := range d.Scores {
		has = append(has, s.Name)
	}
	if len(has) == 0 {
		has = []string{d.Score}
	}
	var out []string
	for i, name := range wanted {
		switch {
		case name == evaluation.All:
			return has, nil
		case !slices.Contains(has, name):
			return nil, fault.Invalid(fmt.Sprintf("scores[%d]", i), "%s has no score %q; it has %s", versioned(d), name, strings.Join(has, ", "))
		case !slices.Contains(out, name):
			out = append(out, name)
		}
	}
	return out, nil
}
