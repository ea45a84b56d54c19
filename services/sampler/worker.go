package sampler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// maxPart bounds what is read of a shard's description, in bytes.
const maxPart = 4 << 20

// work samples one shard. Its result is the blob reference of a set as JSON that has this shard and its classes alone.
func (s *Service) work(ctx context.Context, t *runs.Task) ([]byte, error) {
	var q samplerv1.SampleSetRequest
	if err := protojson.Unmarshal(t.Run.Payload, &q); err != nil {
		return nil, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	part, err := s.part(ctx, &q, t)
	if err != nil {
		return nil, err
	}
	doc, err := protojson.Marshal(part)
	if err != nil {
		return nil, err
	}
	// protojson varies its white space on purpose; the result must not.
	var compact bytes.Buffer
	if err := json.Compact(&compact, doc); err != nil {
		return nil, err
	}
	ref, err := s.deps.Blobs.Put(ctx, &compact)
	return []byte(ref), err
}

// part samples a shard and describes it.
func (s *Service) part(ctx context.Context, q *samplerv1.SampleSetRequest, t *runs.Task) (*samplerv1.EmbeddingSet, error) {
	l := layout{classes: len(q.Classes), perClass: int(q.PerClass), shards: t.Run.ShardCount}
	pieces := l.pieces(t.Shard)
	first, err := s.prepare(ctx, q.Space, q.Classes[pieces[0].class], q.Sampling)
	if err != nil {
		return nil, err
	}
	space := first.class.space
	part := &samplerv1.EmbeddingSet{Space: space.Name, Bank: space.Bank, Dimension: space.Dimension}
	rows := 0
	for _, p := range pieces { // a part of a class is the only one of its shard
		from, to := l.samples(p, roundOf(first.params))
		rows += to - from
	}
	done := 0
	sample := func(add func(Outlier) error) error {
		for _, p := range pieces {
			w, err := s.prepare(ctx, q.Space, q.Classes[p.class], q.Sampling)
			if err != nil {
				return err
			}
			if w.class.space.Bank != space.Bank {
				return errTrainedAgain
			}
			info := w.class.info()
			part.Classes = append(part.Classes, &samplerv1.EmbeddingClass{
				Name: info.Name, Word: info.Word, BankSize: info.Count, Sampling: Message(w.method.Name(), w.params),
			})
			from, to := l.samples(p, roundOf(w.params))
			norm := float32(matrix.Norm(info.Anchor))
			r := Range{Class: uint32(w.class.label), Offset: from, Count: to - from, Anchor: info.Anchor}
			err = w.ready.sampler.Sample(ctx, r, func(o Outlier) error {
				for i := range o.Embedding {
					o.Embedding[i] *= norm
				}
				done++
				t.Report(int64(done), int64(rows), "sampling "+info.Name)
				return add(o)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	shard, err := writeShard(ctx, s.deps.Blobs, rows, int(space.Dimension), sample)
	if err != nil {
		return nil, fmt.Errorf("shard %d: %w", t.Shard, err)
	}
	part.Shards = []*samplerv1.EmbeddingShard{shard}
	t.Report(int64(rows), int64(rows), "")
	return part, nil
}

// finish enters the set into the catalog. Doing so twice is harmless.
func (s *Service) finish(ctx context.Context, run runs.Run) (string, error) {
	var q samplerv1.SampleSetRequest
	if err := protojson.Unmarshal(run.Payload, &q); err != nil {
		return "", runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	set := &samplerv1.EmbeddingSet{
		Name: ood.Embeddings.Name(q.SetId), Space: q.Space, PerClass: q.PerClass, CreateTime: timestamppb.New(run.Created),
		Run: ood.Runs.Name(run.ID), Owner: run.Owner,
	}
	for i, shard := range run.Shards {
		part, err := s.readPart(ctx, artifact.Ref(shard.Result))
		if err != nil {
			return "", fmt.Errorf("shard %d of run %s: %w", i, run.ID, err)
		}
		if i == 0 {
			set.Bank, set.Dimension = part.Bank, part.Dimension
		}
		if part.Bank != set.Bank {
			return "", fault.New(fault.FailedPrecondition, "%s was trained again while it was sampled; sample it again", q.Space)
		}
		for _, c := range part.Classes {
			if n := len(set.Classes); n == 0 || set.Classes[n-1].Name != c.Name {
				set.Classes = append(set.Classes, c)
			}
		}
		for _, p := range part.Shards {
			p.First = set.Embeddings
			set.Embeddings += int64(p.Count)
			set.Shards = append(set.Shards, p)
		}
	}
	if want := int64(q.PerClass) * int64(len(q.Classes)); set.Embeddings != want || len(set.Classes) != len(q.Classes) {
		return "", runs.Drop(fmt.Errorf("the shards of run %s have %d embeddings of %d classes, want %d of %d", run.ID, set.Embeddings, len(set.Classes), want, len(q.Classes)))
	}
	return set.Name, s.sets.Settle(ctx, set, func(old *samplerv1.EmbeddingSet) bool { return proto.Equal(old, set) })
}

// readPart reads the description of a shard.
func (s *Service) readPart(ctx context.Context, ref artifact.Ref) (*samplerv1.EmbeddingSet, error) {
	doc, err := artifact.ReadAll(ctx, s.deps.Blobs, ref, maxPart)
	if err != nil {
		return nil, err
	}
	part := &samplerv1.EmbeddingSet{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(doc, part); err != nil {
		return nil, err
	}
	if len(part.Shards) == 0 {
		return nil, errors.New("it describes no rows")
	}
	return part, nil
}
