package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// CheckTrainDetector looks at the fields of a request alone.
func CheckTrainDetector(q *trainerv1.TrainDetectorRequest) error {
	_, err := settingsOf(q.Training, q.Set)
	var c fault.Checks
	c.That(ood.ValidID(q.DetectorId), "detector_id", "%q; want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", q.DetectorId)
	if q.Set != "" {
		if _, err := ood.Sets.ID(q.Set); err != nil {
			c.Add("set", "%v", err)
		}
	}
	return fault.Join(c.Err(), err, checkSets("ood_datasets", q.OodDatasets), checkSets("shifted_datasets", q.ShiftedDatasets))
}

// CheckEvaluateDetector looks at the fields of a request alone.
func CheckEvaluateDetector(q *trainerv1.EvaluateDetectorRequest) error {
	var c fault.Checks
	c.That(len(q.OodDatasets)+len(q.ShiftedDatasets) > 0, "ood_datasets", "is empty; name at least one")
	name, _ := split(q.Name)
	if _, err := ood.Detectors.ID(name); err != nil {
		c.Add("name", "%v", err)
	}
	return fault.Join(c.Err(), checkSets("ood_datasets", q.OodDatasets), checkSets("shifted_datasets", q.ShiftedDatasets))
}

// planTraining refuses what cannot work.
func (s *Service) planTraining(ctx context.Context, payload []byte, run string) (runs.Plan, error) {
	var q trainerv1.TrainDetectorRequest
	if err := protojson.Unmarshal(payload, &q); err != nil {
		return runs.Plan{}, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	settings, err := settingsOf(q.Training, q.Set)
	if err := fault.Join(err, checkSets("ood_datasets", q.OodDatasets), checkSets("shifted_datasets", q.ShiftedDatasets)); err != nil {
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
	plan := runs.Plan{Shards: 1, Total: int64(len(q.OodDatasets) + len(q.ShiftedDatasets) + 1)}
	return plan, s.checkTests(ctx, detector.Classes, q.TestDataset, q.OodDatasets, q.ShiftedDatasets)
}

// admit refuses what cannot work, before anything is queued.
func (s *Service) admit(ctx context.Context, q *trainerv1.TrainDetectorRequest, settings Settings, run string) error {
	if !q.NewVersion {
		target := ood.Detectors.Name(q.DetectorId)
		if err := s.detectors.Free(ctx, q.DetectorId); fault.ReasonOf(err) == fault.AlreadyExists {
			return fault.New(fault.AlreadyExists, "%s: already exists; choose another id, or make its next version (new_version)", target)
		} else if err != nil {
			return err
		}
		if err := s.deps.Runs.FreeTarget(ctx, KindTrainDetector, target, run); err != nil {
			return err
		}
	} else if newest, err := s.detectors.Named(ctx, "detector_id", ood.Detectors.Name(q.DetectorId)); err == nil {
		if err := auth.Steers(ctx, newest.Owner); err != nil { // it becomes the newest in its place
			return err
		}
	} else if fault.ReasonOf(err) != fault.NotFound {
		return err
	}
	if err := settings.available(); err != nil {
		return err
	}
	var imagined []string
	if q.Set != "" {
		r, err := s.deps.Generator.GetSet(ctx, &generatorv1.GetSetRequest{Name: q.Set})
		if err != nil {
			return fmt.Errorf("ask the generator for %q: %w", q.Set, err)
		}
		imagined = r.GetSet().GetClasses()
		m, err := methodNamed(settings.Method, q.Set)
		if err == nil && m.fits != nil {
			err = m.fits(r.GetSet())
		}
		if err != nil {
			return err
		}
	}
	train, err := s.check(ctx, "dataset", q.Dataset, true)
	if err != nil {
		return err
	}
	if n := train.Pictures * 9 / 10; settings.Batch > n {
		return fault.Invalid("training.batch_size", "%d is more than the %d pictures to train on; lower it", settings.Batch, n)
	}
	return fault.Join(sameClasses(q.Set, imagined, classesOf(train)),
		s.checkTests(ctx, classesOf(train), q.TestDataset, q.OodDatasets, q.ShiftedDatasets))
}

// sameClasses refuses outliers that were imagined around classes that the ID pictures do not have: they belong to another
// dataset.
func sameClasses(set string, imagined, classes []string) error {
	var foreign []string
	for _, c := range imagined {
		if !slices.Contains(classes, c) {
			foreign = append(foreign, c)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	return fault.Invalid("set", "%s was imagined around the classes %v, of which the training pictures, %v, do not have %v; take a set of their own space", set, imagined, classes, foreign)
}

// checkTests looks at the test set and the shifted sets, which must have the classes trained on, and at the OOD sets.
func (s *Service) checkTests(ctx context.Context, classes []string, test string, sets, shifted []*trainerv1.NamedDataset) error {
	labelled := func(field, path string) error {
		report, err := s.check(ctx, field, path, true)
		if err == nil && !slices.Equal(classesOf(report), classes) {
			err = fault.Invalid(field, "has the classes %v, the training pictures have %v; both must have the same folders", classesOf(report), classes)
		}
		return err
	}
	errs := []error{labelled("test_dataset", test)}
	for i, set := range shifted {
		errs = append(errs, labelled(fmt.Sprintf("shifted_datasets[%d].path", i), set.Path))
	}
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

// checkSets refuses names and groups that results cannot have.
func checkSets(field string, sets []*trainerv1.NamedDataset) error {
	var c fault.Checks
	c.That(len(sets) <= maxOODSets, field, "%d sets; at most %d", len(sets), maxOODSets)
	seen := map[string]bool{}
	reserved := []string{evaluation.All, evaluation.Near, evaluation.Far, "shifted"}
	for i, set := range sets {
		name := fmt.Sprintf("%s[%d].name", field, i)
		c.That(ood.ValidID(set.Name), name, "%q; want 1 to 63 of a-z 0-9 - _", set.Name)
		c.That(!seen[set.Name], name, "%q is there twice", set.Name)
		c.That(!slices.Contains(reserved, set.Name), name, "%q is the name of a mean over sets; choose another", set.Name)
		c.That(slices.Contains([]string{"", evaluation.Near, evaluation.Far}, set.Group), fmt.Sprintf("%s[%d].group", field, i), "%q; want near, far or nothing", set.Group)
		seen[set.Name] = true
	}
	return c.Err()
}
