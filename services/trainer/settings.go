package trainer

import (
	"cmp"

	"github.com/dreamood/dreamood/internal/fault"
	scores "github.com/dreamood/dreamood/internal/score/method"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// defaultSingular is λ of the singular-value term. 1/σ_min of a new last layer is about 2 (10 classes, 192 features), so
// that it is a tenth of the first loss.
const defaultSingular = 0.1

// settingsOf fills defaults, those of a training with or without a set of outliers, and reports every setting that is out
// of bounds.
func settingsOf(t *trainerv1.DetectorTraining, set string) (Settings, error) {
	var c fault.Checks
	e := engineOf(&c, t)
	s := Settings{
		Epochs: cmp.Or(int(t.GetEpochs()), 12), Batch: cmp.Or(int(t.GetBatchSize()), 128), Width: cmp.Or(int(t.GetWidth()), e.width()), Engine: e,
		Rate: cmp.Or(t.GetLearningRate(), e.rate()), Recall: cmp.Or(t.GetTargetRecall(), 0.95), Seed: cmp.Or(t.GetSeed(), 1),
	}
	m, err := methodNamed(t.GetMethod(), set)
	if err != nil {
		c.Add("training.method", "%v", err)
		m = methodVanilla()
	}
	s.Method, s.Beta = m.name, cmp.Or(t.GetBeta(), m.beta)
	s.Hidden, s.SingularWeight, s.ConditionNumber = int(t.GetHidden()), t.GetSingularWeight(), t.GetConditionNumber()
	if m.singular {
		s.SingularWeight = cmp.Or(s.SingularWeight, defaultSingular)
	}
	s.Score = cmp.Or(t.GetScore(), decides(m))
	s.OutlierBatch = cmp.Or(int(t.GetOutlierBatchSize()), s.Batch)
	s.OutlierResize, s.CodecShare, s.CodecModel = t.GetOutlierResize(), t.GetCodecShare(), t.GetCodecModel()
	s.Augment = augmentOf(t.GetAugmentation())
	checkPictures(&c, &s, t, set)
	if err == nil {
		m.check(&c, s, set)
	}
	within := func(field string, v, low, high int) {
		c.That(v >= low && v <= high, "training."+field, "%d; want %d to %d", v, low, high)
	}
	within("epochs", s.Epochs, 1, 1000)
	within("batch_size", s.Batch, 8, 1024)
	within("outlier_batch_size", s.OutlierBatch, 1, 1024)
	c.That(s.Width >= 8 && s.Width <= 64 && s.Width%8 == 0, "training.width", "%d; want 8 to 64 in steps of 8", s.Width)
	c.That(s.Rate > 0 && s.Rate <= 10, "training.learning_rate", "%g; want above 0, at most 10", s.Rate)
	c.That(s.Beta > 0 && s.Beta <= 100 || s.Beta == 0 && m.beta == 0, "training.beta", "%g; want above 0, at most 100", s.Beta)
	c.That(s.Recall > 0 && s.Recall < 1, "training.target_recall", "%g; want above 0, below 1", s.Recall)
	if err := scores.Known(s.Score); err != nil {
		c.Add("training.score", "%v", err)
	}
	c.That(s.Score != scores.Head || m.head, "training.score", "%s trains no head; name another score, or a method that does", m.name)
	return s, c.Err()
}
