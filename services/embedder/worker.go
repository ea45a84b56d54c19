package embedder

import (
	"bytes"
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
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// work trains the space of a run. Its result is the blob reference of the space as JSON.
func (s *Service) work(ctx context.Context, t *runs.Task) ([]byte, error) {
	var q embedderv1.TrainSpaceRequest
	if err := protojson.Unmarshal(t.Run.Payload, &q); err != nil {
		return nil, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	settings, err := settingsOf(&q)
	if err != nil {
		return nil, runs.Drop(err)
	}
	path, err := s.deps.Datasets.Resolve(q.Dataset)
	if err != nil {
		return nil, runs.Drop(err)
	}
	t.Report(0, 0, "reading "+filepath.Base(path))
	ds, err := dataset.Open(ctx, path, dataset.Options{Size: imageSize})
	if err != nil {
		return nil, runs.DropIf[*dataset.InvalidError](err)
	}
	vocabulary, err := s.deps.Vocabulary(ctx, q.Model)
	if err != nil {
		return nil, err
	}
	anchors, problems := AnchorsFor(vocabulary, ds.Classes, q.Words)
	if len(problems) > 0 {
		return nil, runs.Drop(problems[0])
	}
	trained, err := TrainSpace(ctx, ds, anchors, settings, s.cfg.ONNX, s.checkpoint(t.Run), map[string]string{
		"dreamood.kind": "encoder", "dreamood.space": q.SpaceId, "dreamood.classes": strings.Join(ds.Classes, ","), "dreamood.model": q.Model,
	}, t.Report)
	if err != nil {
		return nil, err
	}
	space, err := s.keep(ctx, t.Run, &q, ds, anchors, trained, settings)
	if err != nil {
		return nil, err
	}
	doc, err := protojson.Marshal(space)
	if err != nil {
		return nil, err
	}
	ref, err := artifact.PutBytes(ctx, s.deps.Blobs, doc)
	return []byte(ref), err
}

// keep stores the blobs of a trained space and describes it.
func (s *Service) keep(ctx context.Context, run runs.Run, q *embedderv1.TrainSpaceRequest, ds *dataset.Dataset, anchors []Anchor,
	trained Trained, settings Settings) (*embedderv1.Space, error) {
	encoder, err := artifact.PutBytes(ctx, s.deps.Blobs, trained.Encoder)
	if err != nil {
		return nil, fmt.Errorf("keep the encoder: %w", err)
	}
	bank, err := s.putRows(ctx, trained.Bank)
	if err != nil {
		return nil, fmt.Errorf("keep the bank: %w", err)
	}
	stacked, err := rows(anchors)
	if err != nil {
		return nil, err
	}
	table, err := s.putRows(ctx, stacked)
	if err != nil {
		return nil, fmt.Errorf("keep the anchors: %w", err)
	}
	space := &embedderv1.Space{
		Anchors: string(table), Name: ood.Spaces.Name(q.SpaceId), Dimension: int32(trained.Bank.Cols), ImageSize: int32(ds.Size), Model: q.Model,
		Training: &embedderv1.SpaceTraining{
			Epochs: int32(settings.Epochs), BatchSize: int32(settings.Batch), LearningRate: settings.Rate,
			Width: int32(settings.Width), BankPerClass: int32(settings.BankPerClass), Seed: settings.Seed,
		},
		Encoder: string(encoder), Bank: string(bank), DatasetDigest: ds.Digest(), Accuracy: trained.Accuracy,
		CreateTime: timestamppb.New(run.Created),
	}
	for i, name := range ds.Classes {
		space.Classes = append(space.Classes, &embedderv1.SpaceClass{
			Name: name, Word: anchors[i].Word, Count: int32(trained.Counts[i]),
		})
	}
	for _, p := range trained.Loss {
		space.Loss = append(space.Loss, &embedderv1.LossPoint{Step: p.Step, Loss: p.Total})
	}
	return space, nil
}

// putRows stores rows as a NumPy file.
func (s *Service) putRows(ctx context.Context, m matrix.Matrix) (artifact.Ref, error) {
	var file bytes.Buffer
	if err := npy.Write(&file, m.Data, m.Rows, m.Cols); err != nil {
		return "", err
	}
	return s.deps.Blobs.Put(ctx, &file)
}

// finish enters the space into the catalog. Doing so twice is harmless.
func (s *Service) finish(ctx context.Context, run runs.Run) (string, error) {
	var space embedderv1.Space
	doc, err := artifact.ReadAll(ctx, s.deps.Blobs, artifact.Ref(run.Shards[0].Result), 16<<20)
	if err == nil {
		err = protojson.Unmarshal(doc, &space)
	}
	if err != nil {
		return "", fmt.Errorf("read the space of run %s: %w", run.ID, err)
	}
	space.Run, space.Owner = ood.Runs.Name(run.ID), run.Owner
	err = s.spaces.Settle(ctx, &space, func(old *embedderv1.Space) bool { return proto.Equal(old, &space) })
	if err == nil {
		err = fit.Remove(s.checkpoint(run))
	}
	return space.Name, err
}

// checkpoint of a run and its retries. Where none of them succeeds, it goes with the last record (runs.Deps.Forget).
func (s *Service) checkpoint(run runs.Run) string { return fit.Path(s.cfg.Checkpoints, run.Origin) }
