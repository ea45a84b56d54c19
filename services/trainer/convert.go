package trainer

import (
	"slices"

	"google.golang.org/protobuf/proto"

	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

func (s Settings) message() *trainerv1.DetectorTraining {
	return &trainerv1.DetectorTraining{
		Epochs: int32(s.Epochs), BatchSize: int32(s.Batch), OutlierBatchSize: int32(s.OutlierBatch), LearningRate: s.Rate,
		Width: int32(s.Width), Beta: s.Beta, Seed: s.Seed, TargetRecall: s.Recall,
	}
}

func (e Evaluation) message() *trainerv1.Evaluation {
	out := &trainerv1.Evaluation{IdAccuracy: e.Accuracy, IdCount: int32(len(e.IDScores)), IdScores: thin(e.IDScores, maxScores)}
	for _, r := range e.OOD {
		m := r.Metrics
		o := &trainerv1.OODResult{
			Name: r.Name, Count: int32(len(r.Scores)), Auroc: m.AUROC, AuprIn: m.AUPRIn, AuprOut: m.AUPROut,
			Fpr95: m.FPR95IDPositive, Fpr95OodPositive: m.FPR95OODPositive, Scores: thin(r.Scores, maxScores),
		}
		for _, p := range r.ROC {
			o.RocFpr, o.RocTpr = append(o.RocFpr, float32(p.FPR)), append(o.RocTpr, float32(p.TPR))
		}
		out.Ood = append(out.Ood, o)
	}
	return out
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
