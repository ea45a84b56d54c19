package sampler

import (
	"context"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// SampleSet checks the request and queues it in shards.
func (s *Service) SampleSet(ctx context.Context, q *samplerv1.SampleSetRequest) (*samplerv1.SampleSetResponse, error) {
	err := checkFields(q)
	if _, unnamed := ood.Spaces.ID(q.Space); err != nil && unnamed == nil && len(q.Options.GetAfter()) == 0 { // and what else is wrong
		_, _, more := s.fitted(ctx, q)
		return nil, fault.Join(err, more)
	} else if err != nil {
		return nil, err
	}
	payload, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	run, _, err := s.deps.Runs.Submit(ctx, runs.Spec{
		Kind: KindSampleSet, RequestID: q.RequestId, Owner: auth.Owner(ctx), Options: runs.OptionsOf(q.Options), Payload: payload, Target: ood.Embeddings.Name(q.SetId),
		Unit: "embeddings", Plan: s.plan,
	})
	if err != nil {
		return nil, runs.Fault(err)
	}
	return &samplerv1.SampleSetResponse{Run: run.Proto()}, nil
}

// GetEmbeddingSet returns a set.
func (s *Service) GetEmbeddingSet(ctx context.Context, q *samplerv1.GetEmbeddingSetRequest) (*samplerv1.GetEmbeddingSetResponse, error) {
	set, err := s.sets.Named(ctx, "name", q.Name)
	if err != nil {
		return nil, err
	}
	return &samplerv1.GetEmbeddingSetResponse{Set: set}, nil
}

// ListEmbeddingSets returns a page of sets.
func (s *Service) ListEmbeddingSets(ctx context.Context, q *samplerv1.ListEmbeddingSetsRequest) (*samplerv1.ListEmbeddingSetsResponse, error) {
	list, next, err := s.sets.Page(ctx, q.PageSize, q.PageToken)
	if err != nil {
		return nil, err
	}
	for _, set := range list {
		set.Shards = nil
		for _, c := range set.Classes {
			c.Sampling = nil
		}
	}
	return &samplerv1.ListEmbeddingSetsResponse{Sets: list, NextPageToken: next}, nil
}

// DeleteEmbeddingSet removes a set from the catalog.
func (s *Service) DeleteEmbeddingSet(ctx context.Context, q *samplerv1.DeleteEmbeddingSetRequest) (*samplerv1.DeleteEmbeddingSetResponse, error) {
	return &samplerv1.DeleteEmbeddingSetResponse{}, s.sets.Remove(ctx, "name", q.Name)
}

// StreamEmbeddingSet streams the embeddings of a set.
func (s *Service) StreamEmbeddingSet(q *samplerv1.StreamEmbeddingSetRequest, stream samplerv1.SamplerService_StreamEmbeddingSetServer) error {
	ctx := stream.Context()
	set, err := s.sets.Named(ctx, "name", q.Name)
	if err != nil {
		return err
	}
	w, err := wantedOf(q, set)
	if err != nil {
		return err
	}
	for _, shard := range set.Shards {
		if err := s.sendShard(ctx, set, shard, w, stream); err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
	}
	return nil
}

// wanted says which rows of a set a request is about.
type wanted struct {
	class    int // -1 for all
	from, to int // indices in every class
}

// wantedOf checks the request.
func wantedOf(q *samplerv1.StreamEmbeddingSetRequest, set *samplerv1.EmbeddingSet) (wanted, error) {
	w := wanted{class: -1, from: int(q.Offset), to: int(set.PerClass)}
	if q.Count > 0 {
		w.to = min(w.to, w.from+int(q.Count))
	}
	var names []string
	for i, c := range set.Classes {
		if names = append(names, c.Name); c.Name == q.Class {
			w.class = i
		}
	}
	var checks fault.Checks
	checks.That(q.Class == "" || w.class >= 0, "class", "%s has no class %q; it has %s", q.Name, q.Class, names)
	checks.That(q.Offset >= 0 && q.Offset < set.PerClass, "offset", "%d; the classes of %s have indices 0 to %d", q.Offset, q.Name, set.PerClass-1)
	checks.That(q.Count >= 0, "count", "%d; want 1 or more, or 0 for all that follow", q.Count)
	return w, checks.Err()
}

// next is the first row from at on that is wanted, of a set with perClass rows of each class.
func (w wanted) next(at, perClass int) int {
	class, index := at/perClass, at%perClass
	if index >= w.to {
		class, index = class+1, 0
	}
	if class < w.class {
		class, index = w.class, 0
	}
	if w.class >= 0 && class > w.class {
		return math.MaxInt
	}
	return class*perClass + max(index, w.from)
}

// sendShard sends the rows of a shard that are wanted.
func (s *Service) sendShard(ctx context.Context, set *samplerv1.EmbeddingSet, shard *samplerv1.EmbeddingShard, w wanted, stream samplerv1.SamplerService_StreamEmbeddingSetServer) error {
	perClass, at := int(set.PerClass), int(shard.First)
	end := at + int(shard.Count)
	if w.next(at, perClass) >= end {
		return nil
	}
	r, err := openShard(ctx, s.deps.Blobs, shard, int(set.Dimension))
	if err != nil {
		return err
	}
	defer r.close()
	for {
		row := w.next(at, perClass)
		if row >= end {
			return r.finish()
		}
		if err := r.skip(row - at); err != nil {
			return err
		}
		o, err := r.next()
		if err != nil {
			return err
		}
		class := set.Classes[row/perClass]
		if o.Index != row%perClass {
			return fault.New(fault.Internal, "row %d of %s is embedding %d of its class, want %d", row-int(shard.First), shard.Embeddings, o.Index, row%perClass)
		}
		if err := stream.Send(&samplerv1.StreamEmbeddingSetResponse{Outlier: outlierMessage(o, class.Name, class.Word)}); err != nil {
			return err
		}
		at = row + 1
	}
}

// outlierMessage is a sample on the wire.
func outlierMessage(o Outlier, class, word string) *samplerv1.Outlier {
	return &samplerv1.Outlier{
		Class: class, Index: int32(o.Index), Values: o.Embedding, KthDistance: o.KthDistance, AnchorCosine: o.CosineToAnchor,
		Source: int32(o.Source), Round: int32(o.Round), Noise: int32(o.NoiseIndex), Word: word, Rank: int32(o.Rank),
	}
}
