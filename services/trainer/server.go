package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	"github.com/dreamood/dreamood/internal/score"
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
	payload, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	run, _, err := s.deps.Runs.Submit(ctx, runs.Spec{
		Kind: KindEvaluateDetector, RequestID: q.RequestId, Owner: auth.Owner(ctx), Options: runs.OptionsOf(q.Options), Payload: payload,
		Target: q.Name, Unit: "sets", Total: int64(len(q.OodDatasets) + 1), Plan: s.planEvaluation,
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
	scores, err := s.score(ctx, d, q.Images)
	return &trainerv1.ScoreImagesResponse{Scores: scores}, err
}

// StreamScores scores pictures message by message.
func (s *Service) StreamScores(stream trainerv1.TrainerService_StreamScoresServer) error {
	var d *trainerv1.Detector
	for {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if d == nil {
			if d, err = s.detectors.Named(stream.Context(), "detector", q.Detector); err != nil {
				return err
			}
		}
		scores, err := s.score(stream.Context(), d, q.Images)
		if err != nil {
			return err
		}
		if err := stream.Send(&trainerv1.StreamScoresResponse{Scores: scores}); err != nil {
			return err
		}
	}
}

func (s *Service) score(ctx context.Context, d *trainerv1.Detector, images [][]byte) ([]*trainerv1.ImageScore, error) {
	if len(images) > maxImages {
		return nil, fault.Invalid("images", "%d in one message; at most %d", len(images), maxImages)
	}
	if len(images) == 0 {
		return nil, nil
	}
	pixels, err := dataset.DecodeAll(ctx, images, dataset.Options{Size: int(d.ImageSize)})
	if err != nil {
		return nil, fault.Invalid("images", "%w", err)
	}
	var out []*trainerv1.ImageScore
	err = s.models.Use(ctx, artifact.Ref(d.Model), func(m *infer.Model) error {
		r, err := m.Run(ctx, pixels, "logits", scoreName)
		if err != nil {
			return err
		}
		c := len(d.Classes)
		for i := range images {
			logits := r["logits"][i*c : (i+1)*c]
			energy := r[scoreName][i]
			if math.IsNaN(float64(energy)) {
				return fault.New(fault.Internal, "%s scores picture %d as NaN", d.Name, i)
			}
			out = append(out, &trainerv1.ImageScore{
				Class: d.Classes[slices.Index(logits, slices.Max(logits))], Probability: float32(score.MSP(logits)),
				Score: energy, Threshold: float32(d.Threshold), OutOfDistribution: float64(energy) < d.Threshold,
			})
		}
		return nil
	})
	return out, err
}

// GetDetector returns a detector.
func (s *Service) GetDetector(ctx context.Context, q *trainerv1.GetDetectorRequest) (*trainerv1.GetDetectorResponse, error) {
	d, err := s.detectors.Named(ctx, "name", q.Name)
	if err != nil {
		return nil, err
	}
	return &trainerv1.GetDetectorResponse{Detector: d}, nil
}

// ListDetectors returns a page of detectors without their long fields.
func (s *Service) ListDetectors(ctx context.Context, q *trainerv1.ListDetectorsRequest) (*trainerv1.ListDetectorsResponse, error) {
	list, next, err := s.detectors.Page(ctx, q.PageSize, q.PageToken)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		d.Loss = nil
		if d.Evaluation != nil {
			d.Evaluation.IdScores = nil
			for _, r := range d.Evaluation.Ood {
				r.Scores, r.RocFpr, r.RocTpr = nil, nil, nil
			}
		}
	}
	return &trainerv1.ListDetectorsResponse{Detectors: list, NextPageToken: next}, nil
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
	file, err := s.deps.Blobs.Open(stream.Context(), artifact.Ref(d.Model))
	if err != nil {
		return fmt.Errorf("%s: %w", q.Name, err)
	}
	defer file.Close()
	buf := make([]byte, pieceSize)
	for {
		n, err := io.ReadFull(file, buf)
		if n > 0 {
			if err := stream.Send(&trainerv1.DownloadDetectorResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
	}
}
