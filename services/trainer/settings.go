package trainer

import (
	"cmp"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/score/method"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// settingsOf fills defaults, those of a training with or without a set of outliers, and reports every setting that is out
// of bounds.
func settingsOf(t *trainerv1.DetectorTraining, set string) (Settings, error) {
	s := Settings{
		Epochs: cmp.Or(int(t.GetEpochs()), 12), Batch: cmp.Or(int(t.GetBatchSize()), 128), Width: cmp.Or(int(t.GetWidth()), 24),
		Rate: cmp.Or(t.GetLearningRate(), 0.2), Beta: cmp.Or(t.GetBeta(), 2.5), Recall: cmp.Or(t.GetTargetRecall(), 0.95), Seed: cmp.Or(t.GetSeed(), 1),
	}
	s.Score = cmp.Or(t.GetScore(), decides(methodOf(set)))
	s.OutlierBatch = cmp.Or(int(t.GetOutlierBatchSize()), s.Batch)
	var c fault.Checks
	within := func(field string, v, low, high int) {
		c.That(v >= low && v <= high, "training."+field, "%d; want %d to %d", v, low, high)
	}
	within("epochs", s.Epochs, 1, 1000)
	within("batch_size", s.Batch, 8, 1024)
	within("outlier_batch_size", s.OutlierBatch, 1, 1024)
	c.That(s.Width >= 8 && s.Width <= 64 && s.Width%8 == 0, "training.width", "%d; want 8 to 64 in steps of 8", s.Width)
	c.That(s.Rate > 0 && s.Rate <= 10, "training.learning_rate", "%g; want above 0, at most 10", s.Rate)
	c.That(s.Beta > 0 && s.Beta <= 100, "training.beta", "%g; want above 0, at most 100", s.Beta)
	c.That(s.Recall > 0 && s.Recall < 1, "training.target_recall", "%g; want above 0, below 1", s.Recall)
	if err := method.Known(s.Score); err != nil {
		c.Add("training.score", "%v", err)
	}
	c.That(s.Score != method.Head || set != "", "training.score", "head is trained with outliers alone; name a set, or another score")
	return s, c.Err()
}

// methodOf is how a detector is trained with a set of outliers, or without.
func methodOf(set string) string {
	if set == "" {
		return plain
	}
	return dreamOOD
}
