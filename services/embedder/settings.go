package embedder

import (
	"cmp"
	"math"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// settingsOf fills defaults and reports every setting that is out of bounds.
func settingsOf(q *embedderv1.TrainSpaceRequest) (Settings, error) {
	t := q.GetTraining()
	s := Settings{
		Epochs: cmp.Or(int(t.GetEpochs()), 12), Batch: cmp.Or(int(t.GetBatchSize()), 128), Width: cmp.Or(int(t.GetWidth()), 24),
		BankPerClass: cmp.Or(int(t.GetBankPerClass()), 500), Rate: t.GetLearningRate(), Seed: t.GetSeed(),
	}
	if s.Rate == 0 {
		s.Rate = 0.2
	}
	if s.Seed == 0 {
		s.Seed = 1
	}
	var c fault.Checks
	c.That(ood.ValidID(q.SpaceId), "space_id", "%q; want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", q.SpaceId)
	c.That(q.Dataset != "", "dataset", "is empty; name a folder or archive of labelled pictures")
	c.That(s.Epochs >= 1 && s.Epochs <= 1000, "training.epochs", "%d; want 1 to 1000", s.Epochs)
	c.That(s.Batch >= 8 && s.Batch <= 1024, "training.batch_size", "%d; want 8 to 1024", s.Batch)
	c.That(s.Width >= 8 && s.Width <= 64 && s.Width%8 == 0, "training.width", "%d; want 8 to 64 in steps of 8", s.Width)
	c.That(s.BankPerClass >= 10, "training.bank_per_class", "%d; want at least 10", s.BankPerClass)
	c.That(s.Rate > 0 && s.Rate <= 10 && !math.IsNaN(s.Rate), "training.learning_rate", "%g; want above 0, at most 10", s.Rate)
	return s, c.Err()
}
