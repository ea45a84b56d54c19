package embedder

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// maxImages bounds the pictures of one EmbedImages message.
const maxImages = 64

// imageSize is the side of the pictures that spaces are trained on, in pixels.
const imageSize = 32

// TrainSpace checks the request and everything that it names, then queues it.
func (s *Service) TrainSpace(ctx context.Context, q *embedderv1.TrainSpaceRequest) (*embedderv1.TrainSpaceResponse, error) {
	if _, err := settingsOf(q); err != nil {
		return nil, err
	}
	payload, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	run, _, err := s.deps.Runs.Submit(ctx, runs.Spec{
		Kind: KindTrainSpace, RequestID: q.RequestId, Owner: auth.Owner(ctx), Options: runs.OptionsOf(q.Options), Payload: payload,
		Target: ood.Spaces.Name(q.SpaceId), Unit: "steps", Plan: s.plan,
	})
	if err != nil {
		return nil, runs.Fault(err)
	}
	return &embedderv1.TrainSpaceResponse{Run: run.Proto()}, nil
}

// EmbedImages embeds pictures message by message.
func (s *Service) EmbedImages(stream embedderv1.EmbedderService_EmbedImagesServer) error {
	var space *embedderv1.Space
	for {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if space == nil {
			if space, err = s.spaces.Named(stream.Context(), "space", q.Space); err != nil {
				return err
			}
		}
		out, err := s.embed(stream.Context(), space, q.Images)
		if err != nil {
			return err
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

func (s *Service) embed(ctx context.Context, space *embedderv1.Space, images [][]byte) (*embedderv1.EmbedImagesResponse, error) {
	if len(images) > maxImages {
		return nil, fault.Invalid("images", "%d in one message; at most %d", len(images), maxImages)
	}
	out := &embedderv1.EmbedImagesResponse{}
	if len(images) == 0 {
		return out, nil
	}
	pixels, err := dataset.DecodeAll(ctx, images, dataset.Options{Size: int(space.ImageSize)})
	if err != nil {
		return nil, fault.Invalid("images", "%w", err)
	}
	d, c := int(space.Dimension), len(space.Classes)
	err = s.encoders.Use(ctx, artifact.Ref(space.Encoder), func(m *infer.Model) error {
		r, err := m.Run(ctx, pixels, "embedding", "logits")
		if err != nil {
			return err
		}
		for i := range images {
			class, cosine := nearest(r["logits"][i*c : (i+1)*c])
			out.Embeddings = append(out.Embeddings, &embedderv1.ImageEmbedding{
				Values: r["embedding"][i*d : (i+1)*d], Class: space.Classes[class].Name, Cosine: cosine,
			})
		}
		return nil
	})
	return out, err
}

// EmbedText looks up anchors.
func (s *Service) EmbedText(ctx context.Context, q *embedderv1.EmbedTextRequest) (*embedderv1.EmbedTextResponse, error) {
	if n := len(q.Words); n < 1 || n > 1000 {
		return nil, fault.Invalid("words", "%d; want 1 to 1000", n)
	}
	if q.Model == "" {
		q.Model = s.cfg.Model
	}
	v, err := s.deps.Vocabulary(ctx, q.Model)
	if err != nil {
		return nil, fault.Invalid("model", "%w", err)
	}
	var checks fault.Checks
	out := &embedderv1.EmbedTextResponse{}
	for i, w := range q.Words {
		id, row, err := v.TokenEmbedding(w)
		if err != nil {
			checks.Add(fmt.Sprintf("words[%d]", i), "%v", err)
			continue
		}
		out.Anchors = append(out.Anchors, &embedderv1.Anchor{Word: w, TokenId: int32(id), Values: row})
	}
	return out, checks.Err()
}

// GetSpace returns a space.
func (s *Service) GetSpace(ctx context.Context, q *embedderv1.GetSpaceRequest) (*embedderv1.GetSpaceResponse, error) {
	space, err := s.spaces.Named(ctx, "name", q.Name)
	if err != nil {
		return nil, err
	}
	table, err := s.readRows(ctx, space.Anchors)
	if err != nil {
		return nil, fmt.Errorf("anchors of %s: %w", q.Name, err)
	}
	for i, c := range space.Classes {
		c.Anchor = table.Row(i)
	}
	return &embedderv1.GetSpaceResponse{Space: space}, nil
}

// ListSpaces returns a page of spaces without their long fields.
func (s *Service) ListSpaces(ctx context.Context, q *embedderv1.ListSpacesRequest) (*embedderv1.ListSpacesResponse, error) {
	list, next, err := s.spaces.Page(ctx, q.PageSize, q.PageToken)
	for _, sp := range list {
		sp.Loss = nil
	}
	return &embedderv1.ListSpacesResponse{Spaces: list, NextPageToken: next}, err
}

// DeleteSpace removes a space.
func (s *Service) DeleteSpace(ctx context.Context, q *embedderv1.DeleteSpaceRequest) (*embedderv1.DeleteSpaceResponse, error) {
	return &embedderv1.DeleteSpaceResponse{}, s.spaces.Remove(ctx, "name", q.Name)
}
