package embedder

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/dreamood/dreamood/internal/fault"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

func TestSettingsDefaults(t *testing.T) {
	want := Settings{Epochs: 12, Batch: 128, Width: 24, BankPerClass: 500, Rate: 0.2, Seed: 1}
	for _, training := range []*embedderv1.SpaceTraining{nil, {}} {
		if s, err := settingsOf(&embedderv1.TrainSpaceRequest{SpaceId: "x", Dataset: "d", Training: training}); err != nil || s != want {
			t.Errorf("%v: %+v, %v", training, s, err)
		}
	}
}

func TestSettingsBounds(t *testing.T) {
	for _, c := range []struct {
		change func(*embedderv1.TrainSpaceRequest, *embedderv1.SpaceTraining)
		fields []string
	}{
		{func(_ *embedderv1.TrainSpaceRequest, s *embedderv1.SpaceTraining) {
			s.Epochs, s.BatchSize, s.Width, s.BankPerClass, s.LearningRate, s.Seed = 1000, 1024, 64, 10, 10, math.MaxUint64
		}, nil},
		{func(_ *embedderv1.TrainSpaceRequest, s *embedderv1.SpaceTraining) {
			s.Epochs, s.BatchSize, s.Width, s.LearningRate = 1, 8, 8, 1e-9
		}, nil},
		{func(q *embedderv1.TrainSpaceRequest, s *embedderv1.SpaceTraining) {
			q.SpaceId, q.Dataset = "Cats!", ""
			s.Epochs, s.BatchSize, s.Width, s.BankPerClass, s.LearningRate = 1001, 7, 12, 9, -1
		}, []string{"space_id", "dataset", "training.epochs", "training.batch_size", "training.width", "training.bank_per_class", "training.learning_rate"}},
		{func(_ *embedderv1.TrainSpaceRequest, s *embedderv1.SpaceTraining) {
			s.Epochs, s.BatchSize, s.Width, s.BankPerClass, s.LearningRate = -1, 1025, 72, -500, 10.1
		}, []string{"training.epochs", "training.batch_size", "training.width", "training.bank_per_class", "training.learning_rate"}},
		{func(_ *embedderv1.TrainSpaceRequest, s *embedderv1.SpaceTraining) { s.LearningRate = math.NaN() }, []string{"training.learning_rate"}},
		{func(_ *embedderv1.TrainSpaceRequest, s *embedderv1.SpaceTraining) { s.LearningRate = math.Inf(1) }, []string{"training.learning_rate"}},
	} {
		q := &embedderv1.TrainSpaceRequest{SpaceId: "x", Dataset: "d", Training: &embedderv1.SpaceTraining{}}
		c.change(q, q.Training)
		_, err := settingsOf(q)
		var f *fault.Error
		var fields []string
		if errors.As(err, &f) {
			for _, v := range f.Violations {
				fields = append(fields, v.Field)
			}
		}
		if !slices.Equal(fields, c.fields) || err != nil && fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%v: %v, want problems with %q", q, err, c.fields)
		}
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	if err := (Config{}).withDefaults().validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	if _, err := New(Config{Workers: -1, Encoders: -1}, Deps{}); err == nil || len(problemsOf(err)) != 2 {
		t.Errorf("negative numbers: %v", err)
	}
}

// problemsOf takes a joined error apart.
func problemsOf(err error) []error {
	var joined interface{ Unwrap() []error }
	errors.As(err, &joined)
	if joined == nil {
		return nil
	}
	return joined.Unwrap()
}
