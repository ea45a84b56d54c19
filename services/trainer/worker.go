package trainer

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/fit"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	"github.com/dreamood/dreamood/internal/train"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

const (
	maxScores   = 1000     // scores kept per set
	maxDocument = 16 << 20 // bytes of a detector's description

	maxMeasurements = 1 << 30 // bytes of an archive of measurements
)

// train trains the detector of a run. Its result is the blob reference of the detector as JSON.
func (s *Service) train(ctx context.Context, t *runs.Task) ([]byte, error) {
	var q trainerv1.TrainDetectorRequest
	if err := protojson.Unmarshal(t.Run.Payload, &q); err != nil {
		return nil, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	settings, err := settingsOf(q.Training, q.Set)
	if err != nil {
		return nil, runs.Drop(err)
	}
	say := func(message string) { t.Report(0, 0, message) }
	say("reading " + filepath.Base(q.Dataset))
	ds, err := s.open(ctx, q.Dataset, true)
	if err != nil {
		return nil, err
	}
	if settings.CodecShare > 0 && settings.CodecModel == "" { // that of the set
		r, err := s.deps.Generator.GetSet(ctx, &generatorv1.GetSetRequest{Name: q.Set})
		if err != nil {
			return nil, fmt.Errorf("ask the generator for %q: %w", q.Set, err)
		}
		settings.CodecModel = r.GetSet().GetRendering().GetModel()
	}
	in, warnings, err := s.pictures(ctx, ds, q.Set, settings, say)
	if err != nil {
		return nil, err
	}
	about, err := metadata(&q, ds, settings)
	if err != nil {
		return nil, err
	}
	trained, err := TrainDetector(ctx, in, settings, s.cfg.ONNX, s.checkpoint(t.Run), about, t.Report)
	if err != nil {
		if errors.Is(err, train.ErrDiverged) { // the same steps would diverge again
			return nil, runs.Drop(err)
		}
		return nil, runs.DropIf[*UnfitError](err)
	}
	d := &trainerv1.Detector{
		Name: ood.Detectors.Name(q.DetectorId), Classes: ds.Classes, ImageSize: int32(ds.Size), Score: settings.Score, Method: settings.Method,
		Threshold: trained.threshold(settings.Score), Set: q.Set, Training: settings.message(), CreateTime: timestamppb.New(t.Run.Created),
		DatasetDigest: ds.Digest(), Warnings: warnings, LoaderShare: trained.Waiting,
	}
	for _, c := range trained.Scores {
		d.Scores = append(d.Scores, c.message())
	}
	for _, p := range trained.Loss {
		d.Loss = append(d.Loss, &trainerv1.DetectorLoss{Step: p.Step, Total: p.Total, Classification: p.CE, Ood: p.OOD, Accuracy: p.Accuracy})
	}
	model, err := artifact.PutBytes(ctx, s.deps.Blobs, trained.Model)
	if err != nil {
		return nil, fmt.Errorf("keep the detector: %w", err)
	}
	d.Model = string(model)
	steps := trained.Loss[len(trained.Loss)-1].Step
	tests := tests{q.TestDataset, q.OodDatasets, q.ShiftedDatasets}
	if err := s.measure(ctx, d, tests, nil, func(m string) { t.Report(steps, steps, m) }); err != nil {
		return nil, err
	}
	return s.document(ctx, d)
}

// pictures reads what a detector is trained on, and says what looks wrong with it.
func (s *Service) pictures(ctx context.Context, ds *dataset.Dataset, set string, settings Settings, say func(string)) (Pictures, []string, error) {
	in := Pictures{ID: ds}
	var err error
	if settings.CodecShare > 0 {
		if in.Codec, err = s.matchCodec(ctx, ds, settings, say); err != nil {
			return in, nil, err
		}
	}
	if set == "" {
		return in, nil, nil
	}
	m, err := methodNamed(settings.Method, set)
	if err != nil {
		return in, nil, runs.Drop(err)
	}
	if in.Outliers, in.Also, err = s.outliers(ctx, set, settings.OutlierResize, ds.Classes, say); err != nil {
		return in, nil, err
	}
	if m.labelled { // inliers look like ID pictures, as they should
		return in, nil, nil
	}
	say("comparing outliers with ID pictures")
	warnings, err := lookAlike(ctx, ds, in.Outliers)
	return in, warnings, runs.DropIf[*CopiesError](err)
}

// metadata is what the ONNX file says of itself; dreamood.training is the DetectorTraining as JSON, with every option.
func metadata(q *trainerv1.TrainDetectorRequest, ds *dataset.Dataset, s Settings) (map[string]string, error) {
	training, err := protojson.Marshal(s.message())
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"dreamood.kind": "detector", "dreamood.detector": q.DetectorId, "dreamood.classes": strings.Join(ds.Classes, ","),
		"dreamood.method": s.Method, "dreamood.set": q.Set, "dreamood.training": string(training),
		"dreamood.preprocessing": fmt.Sprintf("RGB, centre square, antialiased bicubic to %d, divided by 255, NCHW", ds.Size),
	}, nil
}

// tests are what a request measures on.
type tests struct {
	id           string
	ood, shifted []*trainerv1.NamedDataset
}

// measure measures a detector and puts the evaluation and the reference of its measurements into it. old is an earlier
// measurement whose other sets stay; nil without one.
func (s *Service) measure(ctx context.Context, d *trainerv1.Detector, q tests, old *evaluation.Measured, report func(string)) error {
	var in evaluation.Input
	var err error
	if in.ID, err = s.open(ctx, q.id, true); err != nil {
		return err
	}
	named := func(sets []*trainerv1.NamedDataset, what string, labelled bool) (list []evaluation.Named, err error) {
		for _, set := range sets {
			data, err := s.open(ctx, set.Path, labelled)
			if err != nil {
				return nil, fmt.Errorf("%s set %q: %w", what, set.Name, err)
			}
			list = append(list, evaluation.Named{Name: set.Name, Group: set.Group, Data: data})
		}
		return list, nil
	}
	if in.OOD, err = named(q.ood, "OOD", false); err != nil {
		return err
	}
	if in.Shifted, err = named(q.shifted, "shifted", true); err != nil {
		return err
	}
	var m *evaluation.Measured
	err = s.models.Use(ctx, artifact.Ref(d.Model), func(model *infer.Model) error {
		m, err = evaluation.Measure(ctx, model, measuredDetector(d), in, report)
		return err
	})
	if err != nil {
		return err
	}
	keep(m, old)
	figures, err := m.Summarise(ctx)
	if err != nil {
		return err
	}
	archive, err := m.Archive(figures)
	if err != nil {
		return err
	}
	ref, err := artifact.PutBytes(ctx, s.deps.Blobs, archive)
	if err != nil {
		return fmt.Errorf("keep the measurements: %w", err)
	}
	d.Measurements, d.Evaluation = string(ref), evaluationOf(m, figures)
	return nil
}

// measured reads what a detector's evaluation was computed from; nil where it was not kept.
func (s *Service) measured(ctx context.Context, d *trainerv1.Detector) (*evaluation.Measured, error) {
	if d.Measurements == "" {
		return nil, nil
	}
	raw, err := artifact.ReadAll(ctx, s.deps.Blobs, artifact.Ref(d.Measurements), maxMeasurements)
	if err != nil {
		return nil, fmt.Errorf("read the measurements of %s: %w", versioned(d), err)
	}
	files, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, fmt.Errorf("read the measurements of %s: %w", versioned(d), err)
	}
	return evaluation.Read(files)
}

func (s *Service) open(ctx context.Context, path string, labelled bool) (*dataset.Dataset, error) {
	real, err := s.deps.Datasets.Resolve(path)
	if err != nil {
		return nil, runs.Drop(err)
	}
	read := dataset.Open
	if !labelled {
		read = dataset.OpenUnlabelled
	}
	ds, err := read(ctx, real, dataset.Options{Size: imageSize})
	if err != nil {
		return nil, runs.DropIf[*dataset.InvalidError](err)
	}
	return ds, nil
}

// document stores a detector's description.
func (s *Service) document(ctx context.Context, d *trainerv1.Detector) ([]byte, error) {
	doc, err := protojson.Marshal(d)
	if err != nil {
		return nil, err
	}
	ref, err := artifact.PutBytes(ctx, s.deps.Blobs, doc)
	return []byte(ref), err
}

// result reads the description that a run's shard stored.
func (s *Service) result(ctx context.Context, run runs.Run) (*trainerv1.Detector, error) {
	d := &trainerv1.Detector{}
	doc, err := artifact.ReadAll(ctx, s.deps.Blobs, artifact.Ref(run.Shards[0].Result), maxDocument)
	if err == nil {
		err = protojson.Unmarshal(doc, d)
	}
	if err != nil {
		return nil, fmt.Errorf("read the detector of run %s: %w", run.ID, err)
	}
	return d, nil
}

// finish enters the detector into the catalog. Doing so twice is harmless.
func (s *Service) finish(ctx context.Context, run runs.Run) (string, error) {
	d, err := s.result(ctx, run)
	if err != nil {
		return "", err
	}
	var q trainerv1.TrainDetectorRequest
	if err := protojson.Unmarshal(run.Payload, &q); err != nil {
		return "", fmt.Errorf("read the request of run %s: %w", run.ID, err)
	}
	d.Run, d.Owner = ood.Runs.Name(run.ID), run.Owner
	if err = s.detectors.Add(ctx, d, q.NewVersion); err == nil {
		err = fit.Remove(s.checkpoint(run))
	}
	return d.Name, err
}

// evaluate measures an existing detector.
func (s *Service) evaluate(ctx context.Context, t *runs.Task) ([]byte, error) {
	var q trainerv1.EvaluateDetectorRequest
	if err := protojson.Unmarshal(t.Run.Payload, &q); err != nil {
		return nil, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	d, err := s.detectors.Named(ctx, "name", q.Name)
	if err != nil {
		return nil, err
	}
	old, err := s.measured(ctx, d)
	if err != nil {
		return nil, err
	}
	total := int64(len(q.OodDatasets) + len(q.ShiftedDatasets) + 1)
	var done int64
	tests := tests{q.TestDataset, q.OodDatasets, q.ShiftedDatasets}
	if err := s.measure(ctx, d, tests, old, func(m string) { t.Report(done, total, m); done++ }); err != nil {
		return nil, err
	}
	t.Report(total, total, "")
	return s.document(ctx, &trainerv1.Detector{Name: d.Name, Version: numberOf(d), Evaluation: d.Evaluation, Measurements: d.Measurements})
}

// finishEvaluation replaces the detector's evaluation: results of sets that were not measured now stay.
func (s *Service) finishEvaluation(ctx context.Context, run runs.Run) (string, error) {
	r, err := s.result(ctx, run)
	if err != nil {
		return "", err
	}
	return r.Name, s.detectors.Change(ctx, r, func(d *trainerv1.Detector) error {
		merge(d, proto.CloneOf(r.Evaluation))
		d.Measurements = r.Measurements
		return nil
	})
}

// checkpoint of a run and its retries. Where none of them succeeds, it goes with the last record (runs.Deps.Forget).
func (s *Service) checkpoint(run runs.Run) string { return fit.Path(s.cfg.Checkpoints, run.Origin) }
