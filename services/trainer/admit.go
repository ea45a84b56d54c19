package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// CheckTrainDetector looks at the fields of a request alone.
func CheckTrainDetector(q *trainerv1.TrainDetectorRequest) error {
	_, err := settingsOf(q.Training)
	var c fault.Checks
	c.That(ood.ValidID(q.DetectorId), "detector_id", "%q; want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", q.DetectorId)
	if q.Set != "" {
		if _, err := ood.Sets.ID(q.Set); err != nil {
			c.Add("set", "%v", err)
		}
	}
	return fault.Join(c.Err(), err, checkSets(q.OodDatasets))
}

// CheckEvaluateDetector looks at the fields of a request alone.
func CheckEvaluateDetector(q *trainerv1.EvaluateDetectorRequest) error {
	var c fault.Checks
	c.That(len(q.OodDatasets) > 0, "ood_datasets", "is empty; name at least one")
	if _, err := ood.Detectors.ID(q.Name); err != nil {
		c.Add("name", "%v", err)
	}
	return fault.Join(c.Err(), checkSets(q.OodDatasets))
}

// planTraining refuses what cannot work.
func (s *Service) planTraining(ctx context.Context, payload []byte, run string) (runs.Plan, error) {
	var q trainerv1.TrainDetectorRequest
	if err := protojson.Unmarshal(payload, &q); err != nil {
		return runs.Plan{}, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	settings, err := settingsOf(q.Training)
	if err := fault.Join(err, checkSets(q.OodDatasets)); err != nil {
		return runs.Plan{}, err
	}
	return runs.Plan{Shards: 1}, s.admit(ctx, &q, settings, run)
}

// planEvaluation refuses what cannot work.
func (s *Service) planEvaluation(ctx context.Context, payload []byte, _ string) (runs.Plan, error) {
	var q trainerv1.EvaluateDetectorRequest
	if err := protojson.Unmarshal(payload, &q); err != nil {
		return runs.Plan{}, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	if err := CheckEvaluateDetector(&q); err != nil {
		return runs.Plan{}, err
	}
	detector, err := s.detectors.Named(ctx, "name", q.Name)
	if err != nil {
		return runs.Plan{}, err
	}
	if err := auth.Steers(ctx, detector.Owner); err != nil { // its evaluation is replaced
		return runs.Plan{}, err
	}
	plan := runs.Plan{Shards: 1, Total: int64(len(q.OodDatasets) + 1)}
	return plan, s.checkTests(ctx, detector.Classes, q.TestDataset, q.OodDatasets)
}

// admit refuses what cannot work, before anything is queued.
func (s *Service) admit(ctx context.Context, q *trainerv1.TrainDetectorRequest, settings Settings, run string) error {
	if err := errors.Join(s.detectors.Free(ctx, q.DetectorId), s.deps.Runs.FreeTarget(ctx, KindTrainDetector, ood.Detectors.Name(q.DetectorId), run)); err != nil {
		return err
	}
	if q.Set != "" {
		if _, err := s.deps.Generator.GetSet(ctx, &generatorv1.GetSetRequest{Name: q.Set}); err != nil {
			return fmt.Errorf("ask the generator for %q: %w", q.Set, err)
		}
	}
	train, err := s.check(ctx, "dataset", q.Dataset, true)
	if err != nil {
		return err
	}
	if n := train.Pictures * 9 / 10; settings.Batch > n {
		return fault.Invalid("training.batch_size", "%d is more than the %d pictures to train on; lower it", settings.Batch, n)
	}
	return s.checkTests(ctx, classesOf(train), q.TestDataset, q.OodDatasets)
}

// checkTests looks at the test set, which must have the classes trained on, and at the OOD sets.
func (s *Service) checkTests(ctx context.Context, classes []string, test string, sets []*trainerv1.NamedDataset) error {
	report, err := s.check(ctx, "test_dataset", test, true)
	if err == nil && !slices.Equal(classesOf(report), classes) {
		err = fault.Invalid("test_dataset", "has the classes %v, the training pictures have %v; both must have the same folders", classesOf(report), classes)
	}
	errs := []error{err}
	for i, set := range sets {
		_, err := s.check(ctx, fmt.Sprintf("ood_datasets[%d].path", i), set.Path, false)
		errs = append(errs, err)
	}
	return fault.Join(errs...)
}

// check surveys a dataset without decoding all of it.
func (s *Service) check(ctx context.Context, field, path string, labelled bool) (dataset.Report, error) {
	real, err := s.deps.Datasets.Resolve(path)
	if err != nil {
		return dataset.Report{}, fault.Invalid(field, "%w", err)
	}
	look := dataset.Check
	if !labelled {
		look = dataset.CheckUnlabelled
	}
	report, err := look(ctx, real, dataset.Options{Size: imageSize})
	if ctx.Err() != nil {
		return report, ctx.Err()
	}
	if err = errors.Join(err, report.Err()); err != nil {
		return report, fault.Invalid(field, "%w", err)
	}
	return report, nil
}

func classesOf(r dataset.Report) []string {
	var names []string
	for _, c := range r.Classes {
		names = append(names, c.Class)
	}
	return names
}

func checkSets(sets []*trainerv1.NamedDataset) error {
	var c fault.Checks
	c.That(len(sets) <= maxOODSets, "ood_datasets", "%d sets; at most %d", len(sets), maxOODSets)
	seen := map[string]bool{}
	for i, set := range sets {
		c.That(ood.ValidID(set.Name), fmt.Sprintf("ood_datasets[%d].name", i), "%q; want 1 to 63 of a-z 0-9 - _", set.Name)
		c.That(!seen[set.Name], fmt.Sprintf("ood_datasets[%d].name", i), "%q is there twice", set.Name)
		seen[set.Name] = true
	}
	return c.Err()
}
