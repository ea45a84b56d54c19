package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

const (
	imageSize  = 32      // side of the pictures that detectors are trained on, in pixels
	maxImages  = 256     // pictures of one ScoreImages
	maxOODSets = 32      // OOD sets of one request
	pieceSize  = 1 << 20 // bytes of one DownloadDetectorResponse
)

// TrainDetector checks the request and everything that it names, then queues it.
func (s *Service) TrainDetector(ctx context.Context, q *trainerv1.TrainDetectorRequest) (*trainerv1.TrainDetectorResponse, error) {
	if err := CheckTrainDetector(q); err != nil {
		return nil, err
	}
	payload, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	run, _, err := s.deps.Runs.Submit(ctx, runs.Spec{
		Kind: KindTrainDetector, RequestID: q.RequestId, Owner: auth.Owner(ctx), Options: runs.OptionsOf(q.Options), Payload: payload,
		Target: ood.Detectors.Name(q.DetectorId), Unit: "steps", Plan: s.planTraining,
	})
	if err != nil {
		return nil, runs.Fault(err)
	}
	return &trainerv1.TrainDetectorResponse{Run: run.Proto()}, nil
}

// EvaluateDetector checks the request and queues it.
func (s *Service) EvaluateDetector(ctx context.Context, q *trainerv1.EvaluateDetectorRequest) (*trainerv1.EvaluateDetectorResponse, error) {
	if err := CheckEvaluateDetector(q); err != nil {
		return nil, err
	}
	target, _ := split(q.Name)
	payload, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	run, _, err := s.deps.Runs.Submit(ctx, runs.Spec{
		Kind: KindEvaluateDetector, RequestID: q.RequestId, Owner: auth.Owner(ctx), Options: runs.OptionsOf(q.Options), Payload: payload,
		Target: target, Unit: "sets", Total: int64(len(q.OodDatasets) + len(q.ShiftedDatasets) + 1), Plan: s.planEvaluation,
	})
	if err != nil {
		return nil, runs.Fault(err)
	}
	return &trainerv1.EvaluateDetectorResponse{Run: run.Proto()}, nil
}

// ScoreImages scores the pictures of one message.
func (s *Service) ScoreImages(ctx context.Context, q *trainerv1.ScoreImagesRequest) (*trainerv1.ScoreImagesResponse, error) {
	if len(q.Images) == 0 {
		return nil, fault.Invalid("images", "is empty; send 1 to %d pictures", maxImages)
	}
	d, err := s.detectors.Named(ctx, "detector", q.Detector)
	if err != nil {
		return nil, err
	}
	scores, err := s.score(ctx, d, q.Images, q.Scores, q.Aside)
	return &trainerv1.ScoreImagesResponse{Scores: scores, Detector: versioned(d)}, err
}

// StreamScores scores pictures message by message. An alias is looked up with every message, so that a stream goes over
// to the version that it is pointed to.
func (s *Service) StreamScores(stream trainerv1.TrainerService_StreamScoresServer) error {
	var first *trainerv1.StreamScoresRequest
	var d *trainerv1.Detector
	for {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if first == nil {
			first = q
		}
		if d == nil || strings.Contains(first.Detector, "@") {
			if d, err = s.detectors.Named(stream.Context(), "detector", first.Detector); err != nil {
				return err
			}
		}
		scores, err := s.score(stream.Context(), d, q.Images, first.Scores, false)
		if err != nil {
			return err
		}
		if err := stream.Send(&trainerv1.StreamScoresResponse{Scores: scores, Detector: versioned(d)}); err != nil {
			return err
		}
	}
}

func (s *Service) score(ctx context.Context, d *trainerv1.Detector, images [][]byte, wanted []string, aside bool) ([]*trainerv1.ImageScore, error) {
	if len(images) > maxImages {
		return nil, fault.Invalid("images", "%d in one message; at most %d", len(images), maxImages)
	}
	more, err := wantedScores(d, wanted)
	if err != nil || len(images) == 0 {
		return nil, err
	}
	pixels, err := dataset.DecodeAll(ctx, images, dataset.Options{Size: int(d.ImageSize)})
	if err != nil {
		return nil, fault.Invalid("images", "%w", err)
	}
	var decided []Decided
	decide := func(m *infer.Model) (err error) {
		decided, err = Decide(ctx, m, pixels, len(images), decisionOf(d), more)
		return err
	}
	if len(more) > 0 {
		err = s.models.Use(ctx, artifact.Ref(d.Model), decide)
	} else {
		err = s.models.Use(ctx, artifact.Ref(d.Model), decide, "logits", d.Score)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", versioned(d), err)
	}
	out, values := make([]*trainerv1.ImageScore, len(decided)), make([]float32, len(decided))
	for i, one := range decided {
		values[i] = one.Score
		out[i] = &trainerv1.ImageScore{
			Class: d.Classes[one.Class], Probability: one.Probability, Score: one.Score, Threshold: float32(d.Threshold),
			OutOfDistribution: one.Out, Scores: one.More,
		}
	}
	if !aside {
		s.drift.observe(versioned(d), referenceOf(d), d.Threshold, values)
	}
	return out, nil
}

// GetDetector returns a detector.
func (s *Service) GetDetector(ctx context.Context, q *trainerv1.GetDetectorRequest) (*trainerv1.GetDetectorResponse, error) {
	d, err := s.detectors.Named(ctx, "name", q.Name)
	if err != nil {
		return nil, err
	}
	d.Drift = s.drift.of(versioned(d)).message()
	return &trainerv1.GetDetectorResponse{Detector: d}, nil
}

// ListDetectors returns a page of detectors without their long fields.
func (s *Service) ListDetectors(ctx context.Context, q *trainerv1.ListDetectorsRequest) (*trainerv1.ListDetectorsResponse, error) {
	list, next, err := s.detectors.Page(ctx, q.PageSize, q.PageToken)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		shorten(d)
	}
	return &trainerv1.ListDetectorsResponse{Detectors: list, NextPageToken: next}, nil
}

// shorten leaves out what is long.
func shorten(d *trainerv1.Detector) {
	d.Loss = nil
	for _, s := range d.Scores {
		s.Quantiles, s.Bins = nil, nil
	}
	if d.Evaluation != nil {
		d.Evaluation.IdScores = nil
		for _, r := range d.Evaluation.Ood {
			r.Scores, r.RocFpr, r.RocTpr = nil, nil, nil
		}
	}
}

// ListDetectorVersions returns all versions of a detector without their long fields.
func (s *Service) ListDetectorVersions(ctx context.Context, q *trainerv1.ListDetectorVersionsRequest) (*trainerv1.ListDetectorVersionsResponse, error) {
	list, err := s.detectors.List(ctx, "name", q.Name)
	for _, d := range list {
		shorten(d)
	}
	return &trainerv1.ListDetectorVersionsResponse{Detectors: list}, err
}

// PromoteDetector points an alias to a version that was loaded and tried before.
func (s *Service) PromoteDetector(ctx context.Context, q *trainerv1.PromoteDetectorRequest) (*trainerv1.PromoteDetectorResponse, error) {
	var c fault.Checks
	c.That(aliasPattern.MatchString(q.Alias), "alias", "%q; want 1 to 63 of a-z 0-9 - _, beginning with a letter", q.Alias)
	if err := c.Err(); err != nil {
		return nil, err
	}
	d, err := s.detectors.Named(ctx, "name", q.Name)
	if err != nil {
		return nil, err
	}
	if err := auth.Steers(ctx, d.Owner); err != nil {
		return nil, err
	}
	number := numberOf(d)
	if q.Remove {
		number = 0
	} else if err := s.try(ctx, d); err != nil {
		return nil, err
	}
	if err := s.detectors.Promote(ctx, d.Name, q.Alias, number); err != nil {
		return nil, err
	}
	name := d.Name
	if !q.Remove {
		name += "@" + q.Alias
	}
	d, err = s.detectors.Named(ctx, "name", name)
	return &trainerv1.PromoteDetectorResponse{Detector: d}, err
}

// try scores a grey picture, so that a detector is loaded, and known to work, before traffic comes.
func (s *Service) try(ctx context.Context, d *trainerv1.Detector) error {
	size := int(d.ImageSize)
	grey := slices.Repeat([]float32{0.5}, 3*size*size)
	err := s.models.Use(ctx, artifact.Ref(d.Model), func(m *infer.Model) error {
		_, err := Decide(ctx, m, grey, 1, decisionOf(d), nil)
		return err
	}, "logits", d.Score)
	if err != nil && ctx.Err() == nil {
		return fault.New(fault.FailedPrecondition, "%s cannot be used: %w; nothing was changed", versioned(d), err)
	}
	return err
}

// DeleteDetector removes a detector from the catalog.
func (s *Service) DeleteDetector(ctx context.Context, q *trainerv1.DeleteDetectorRequest) (*trainerv1.DeleteDetectorResponse, error) {
	return &trainerv1.DeleteDetectorResponse{}, s.detectors.Remove(ctx, "name", q.Name)
}

// DownloadDetector streams the ONNX file.
func (s *Service) DownloadDetector(q *trainerv1.DownloadDetectorRequest, stream trainerv1.TrainerService_DownloadDetectorServer) error {
	d, err := s.detectors.Named(stream.Context(), "name", q.Name)
	if err != nil {
		return err
	}
	return s.download(stream.Context(), q.Name, artifact.Ref(d.Model), func(piece []byte) error {
		return stream.Send(&trainerv1.DownloadDetectorResponse{Data: piece})
	})
}

// DownloadMeasurements streams the archive that a detector's evaluation was computed from.
func (s *Service) DownloadMeasurements(q *trainerv1.DownloadMeasurementsRequest, stream trainerv1.TrainerService_DownloadMeasurementsServer) error {
	d, err := s.detectors.Named(stream.Context(), "name", q.Name)
	if err != nil {
		return err
	}
	if d.Measurements == "" {
		return fault.New(fault.FailedPrecondition, "%s was measured before measurements were kept; evaluate it again", versioned(d))
	}
	return s.download(stream.Context(), q.Name, artifact.Ref(d.Measurements), func(piece []byte) error {
		return stream.Send(&trainerv1.DownloadMeasurementsResponse{Data: piece})
	})
}

func (s *Service) download(ctx context.Context, name string, ref artifact.Ref, send func([]byte) error) error {
	file, err := s.deps.Blobs.Open(ctx, ref)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer file.Close()
	buf := make([]byte, pieceSize)
	for {
		n, err := io.ReadFull(file, buf)
		if n > 0 {
			if err := send(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}
