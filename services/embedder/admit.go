package embedder

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// CheckTrainSpace looks at the fields of a request alone.
func CheckTrainSpace(q *embedderv1.TrainSpaceRequest) error {
	_, err := settingsOf(q)
	return err
}

// plan refuses what cannot work, and completes the request.
func (s *Service) plan(ctx context.Context, payload []byte, run string) (runs.Plan, error) {
	var q embedderv1.TrainSpaceRequest
	if err := protojson.Unmarshal(payload, &q); err != nil {
		return runs.Plan{}, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	settings, err := settingsOf(&q)
	if err != nil {
		return runs.Plan{}, err
	}
	q.Model = cmp.Or(q.Model, s.cfg.Model)
	if err := s.admit(ctx, &q, settings, run); err != nil {
		return runs.Plan{}, err
	}
	payload, err = protojson.Marshal(&q)
	return runs.Plan{Payload: payload, Shards: 1}, err
}

// admit refuses what cannot work, before anything is queued.
func (s *Service) admit(ctx context.Context, q *embedderv1.TrainSpaceRequest, settings Settings, run string) error {
	if err := errors.Join(s.spaces.Free(ctx, q.SpaceId), s.deps.Runs.FreeTarget(ctx, KindTrainSpace, ood.Spaces.Name(q.SpaceId), run)); err != nil {
		return err
	}
	vocabulary, err := s.deps.Vocabulary(ctx, q.Model)
	if err != nil {
		return fault.Invalid("model", "%w", err)
	}
	path, err := s.deps.Datasets.Resolve(q.Dataset)
	if err != nil {
		return fault.Invalid("dataset", "%w", err)
	}
	report, err := dataset.Check(ctx, path, dataset.Options{Size: imageSize})
	if err = errors.Join(err, report.Err()); err != nil {
		return fault.Invalid("dataset", "%w", err)
	}
	var checks fault.Checks
	classes := make([]string, len(report.Classes))
	for i, c := range report.Classes {
		classes[i] = c.Class
		checks.That(c.Pictures >= 20, "dataset", "class %q has %d pictures; at least 20 are needed", c.Class, c.Pictures)
	}
	_, problems := AnchorsFor(vocabulary, classes, q.Words)
	for _, p := range problems {
		checks.Add("words", "%v", p)
	}
	checks.That(report.Pictures >= 2*settings.Batch || settings.Batch <= 32, "training.batch_size",
		"%d is more than half of the %d pictures; lower it", settings.Batch, report.Pictures)
	return checks.Err()
}
