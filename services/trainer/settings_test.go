package trainer

import (
	"errors"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// fieldsOf are the fields that an error finds fault with.
func fieldsOf(err error) []string {
	var f *fault.Error
	var fields []string
	if errors.As(err, &f) {
		for _, v := range f.Violations {
			fields = append(fields, v.Field)
		}
	}
	return fields
}

func TestSettingsDefaults(t *testing.T) {
	want := Settings{Epochs: 12, Batch: 128, OutlierBatch: 128, Width: 24, Rate: 0.2, Recall: 0.95, Seed: 1, Score: "energy", Method: "vanilla", Augment: dataset.Standard(),
		Engine: Engine{Network: "resnet9", Optimizer: "sgd", Schedule: "onecycle", Precision: "fp32", WeightDecay: 5e-4, Warmup: 0.25}}
	for _, q := range []*trainerv1.DetectorTraining{nil, {}} {
		if s, err := settingsOf(q, ""); err != nil || s != want {
			t.Errorf("%v: %+v, %v", q, s, err)
		}
	}
	if s, err := settingsOf(&trainerv1.DetectorTraining{BatchSize: 32}, ""); err != nil || s.OutlierBatch != 32 {
		t.Errorf("the outlier batch beside 32 pictures is %d, %v", s.OutlierBatch, err)
	}
	decay, warm := 0.0, 0.0
	q := &trainerv1.DetectorTraining{Network: "wrn-40-2", Optimizer: "adamw", WeightDecay: &decay, Schedule: "cosine", Warmup: &warm, Ema: 0.99,
		LabelSmoothing: 0.1, ClipNorm: 1, Precision: "bf16", Epochs: 3, BatchSize: 8, OutlierBatchSize: 1, LearningRate: 10, Width: 64, Beta: 100, Seed: 9, TargetRecall: 0.5, Score: "knn", Method: "vanilla",
		Augmentation: &trainerv1.Augmentation{Cutout: 5, Operations: 2, Magnitude: 7}, CodecShare: 0.5, CodecModel: "m"}
	if s, err := settingsOf(q, ""); err != nil || !proto.Equal(s.message(), q) {
		t.Errorf("%v came back as %v, %v", q, s.message(), err)
	}
}

func TestSettingsBounds(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		q      *trainerv1.DetectorTraining
		fields []string
	}{
		{&trainerv1.DetectorTraining{Epochs: -1, BatchSize: 7, OutlierBatchSize: -1, Width: 20, LearningRate: -1, Beta: -1, TargetRecall: 1},
			[]string{"epochs", "batch_size", "outlier_batch_size", "width", "learning_rate", "beta", "target_recall"}},
		{&trainerv1.DetectorTraining{Epochs: 1001, BatchSize: 1025, OutlierBatchSize: 5, Width: 72, LearningRate: 11, Beta: 101, TargetRecall: -0.1},
			[]string{"epochs", "batch_size", "width", "learning_rate", "beta", "target_recall"}},
		{&trainerv1.DetectorTraining{Network: "vgg", Optimizer: "lamb", Schedule: "steps", Precision: "fp8", WeightDecay: &nan, Warmup: &nan, Ema: 1,
			LabelSmoothing: 1, ClipNorm: -1},
			[]string{"network", "optimizer", "schedule", "precision", "weight_decay", "warmup", "ema", "label_smoothing", "clip_norm"}},
		{&trainerv1.DetectorTraining{LearningRate: nan, Beta: nan, TargetRecall: nan}, []string{"learning_rate", "beta", "target_recall"}},
		{&trainerv1.DetectorTraining{LearningRate: math.Inf(1), Beta: math.Inf(1), TargetRecall: math.Inf(1)}, []string{"learning_rate", "beta", "target_recall"}},
	} {
		_, err := settingsOf(c.q, "")
		for i := range c.fields {
			c.fields[i] = "training." + c.fields[i]
		}
		if got := fieldsOf(err); !slices.Equal(got, c.fields) {
			t.Errorf("%v: %v, want problems with %q", c.q, err, c.fields)
		}
	}
}

func TestCheckSets(t *testing.T) {
	named := func(names ...string) (sets []*trainerv1.NamedDataset) {
		for _, n := range names {
			sets = append(sets, &trainerv1.NamedDataset{Name: n, Path: "p"})
		}
		return sets
	}
	for _, c := range []struct {
		sets   []*trainerv1.NamedDataset
		fields []string
	}{
		{nil, nil},
		{named("textures", "svhn"), nil},
		{named("a", "", "a", "Big Name"), []string{"ood_datasets[1].name", "ood_datasets[2].name", "ood_datasets[3].name"}},
		{make([]*trainerv1.NamedDataset, maxOODSets+1), nil}, // below
	} {
		if len(c.sets) > maxOODSets {
			for i := range c.sets {
				c.sets[i] = &trainerv1.NamedDataset{Name: "set-" + string(rune('a'+i%26)) + string(rune('a'+i/26))}
			}
			c.fields = []string{"ood_datasets"}
		}
		if got := fieldsOf(checkSets("ood_datasets", c.sets)); !slices.Equal(got, c.fields) {
			t.Errorf("%d sets: problems with %q, want %q", len(c.sets), got, c.fields)
		}
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	if err := (Config{}).withDefaults().validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	if _, err := New(Config{Workers: -1, Detectors: -1}, Deps{}); err == nil {
		t.Error("negative numbers were taken")
	}
}
