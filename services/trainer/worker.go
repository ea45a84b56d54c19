package trainer

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fit"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

const (
	maxScores   = 1000     // scores kept per set
	maxDocument = 16 << 20 // bytes of a detector's description
)

// train trains the detector of a run. Its result is the blob reference of the detector as JSON.
func (s *Service) train(ctx context.Context, t *runs.Task) ([]byte, error) {
	var q trainerv1.TrainDetectorRequest
	if err := protojson.Unmarshal(t.Run.Payload, &q); err != nil {
		return nil, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	settings, err := settingsOf(q.Training)
	if err != nil {
		return nil, runs.Drop(err)
	}
	say := func(message string) { t.Report(0, 0, message) }
	say("reading " + filepath.Base(q.Dataset))
	ds, err := s.open(ctx, q.Dataset, true)
	if err != nil {
		return nil, err
	}
	var outliers *dataset.Dataset
	method := "plain"
	if q.Set != "" {
		method = "dream-ood"
		if outliers, err = s.outliers(ctx, q.Set, say); err != nil {
			return nil, err
		}
	}
	trained, err := TrainDetector(ctx, ds, outliers, settings, s.cfg.ONNX, s.checkpoint(t.Run), metadata(&q, ds, method), t.Report)
	if err != nil {
		return nil, err
	}
	d := &trainerv1.Detector{
		Name: ood.Detectors.Name(q.DetectorId), Classes: ds.Classes, ImageSize: int32(ds.Size), Score: scoreName,
		Threshold: trained.Threshold, Set: q.Set, Training: settings.message(), CreateTime: timestamppb.New(t.Run.Created),
		DatasetDigest: ds.Digest(),
	}
	for _, p := range trained.Loss {
		d.Loss = append(d.Loss, &trainerv1.DetectorLoss{Step: p.Step, Total: p.Total, Classification: p.CE, Ood: p.OOD})
	}
	model, err := artifact.PutBytes(ctx, s.deps.Blobs, trained.Model)
	if err != nil {
		return nil, fmt.Errorf("keep the detector: %w", err)
	}
	d.Model = string(model)
	steps := trained.Loss[len(trained.Loss)-1].Step
	d.Evaluation, err = s.measure(ctx, model, q.TestDataset, q.OodDatasets, func(m string) { t.Report(steps, steps, m) })
	if err != nil {
		return nil, err
	}
	return s.document(ctx, d)
}

// metadata is what the ONNX file says of itself.
func metadata(q *trainerv1.TrainDetectorRequest, ds *dataset.Dataset, method string) map[string]string {
	return map[string]string{
		"dreamood.kind": "detector", "dreamood.detector": q.DetectorId, "dreamood.classes": strings.Join(ds.Classes, ","),
		"dreamood.method": method, "dreamood.set": q.Set, "dreamood.score": scoreName,
		"dreamood.preprocessing": fmt.Sprintf("RGB, centre square, antialiased bicubic to %d, divided by 255, NCHW", ds.Size),
	}
}

// measure evaluates a model on a test set and OOD sets.
func (s *Service) measure(ctx context.Context, model artifact.Ref, test string, sets []*trainerv1.NamedDataset, report func(string)) (*trainerv1.Evaluation, error) {
	ds, err := s.open(ctx, test, true)
	if err != nil {
		return nil, err
	}
	var named []Named
	for _, set := range sets {
		data, err := s.open(ctx, set.Path, false)
		if err != nil {
			return nil, fmt.Errorf("OOD set %q: %w", set.Name, err)
		}
		named = append(named, Named{set.Name, data})
	}
	var e Evaluation
	err = s.models.Use(ctx, model, func(m *infer.Model) error {
		e, err = Evaluate(ctx, m, ds, named, report)
		return err
	})
	if err != nil {
		return nil, err
	}
	return e.message(), nil
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
	d.Run, d.Owner = ood.Runs.Name(run.ID), run.Owner
	err = s.detectors.Settle(ctx, d, func(old *trainerv1.Detector) bool { return proto.Equal(old, d) })
	if err == nil {
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
	total := int64(len(q.OodDatasets) + 1)
	var done int64
	e, err := s.measure(ctx, artifact.Ref(d.Model), q.TestDataset, q.OodDatasets, func(m string) { t.Report(done, total, m); done++ })
	if err != nil {
		return nil, err
	}
	t.Report(total, total, "")
	return s.document(ctx, &trainerv1.Detector{Name: d.Name, Evaluation: e})
}

// finishEvaluation replaces the detector's evaluation: results of sets that were not measured now stay.
func (s *Service) finishEvaluation(ctx context.Context, run runs.Run) (string, error) {
	r, err := s.result(ctx, run)
	if err != nil {
		return "", err
	}
	return r.Name, s.detectors.Change(ctx, r.Name, func(d *trainerv1.Detector) error {
		merge(d, r.Evaluation)
		return nil
	})
}

// checkpoint of a run and its retries. Where none of them succeeds, it goes with the last record (runs.Deps.Forget).
func (s *Service) checkpoint(run runs.Run) string { return fit.Path(s.cfg.Checkpoints, run.Origin) }
