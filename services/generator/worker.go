package generator

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/logs"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	"github.com/dreamood/dreamood/internal/stage"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// How a set is cut, where the configuration does not say: for work of shardTime, but neither into crumbs nor into fewer
// than shareable shards where there are enough pictures. The pictures do not depend on it.
const (
	shardTime    = 45 * time.Second
	defaultShard = 32 // pictures, as long as no speed is known, and for small sets
	smallestCut  = 4
	largestCut   = 256
	shareable    = 8
)

// shardSize is the pictures per shard for a set of total pictures, of which one takes so long; 0 when not known.
func shardSize(total int, perPicture time.Duration) int {
	if perPicture <= 0 {
		return defaultShard
	}
	size := int(min(max(shardTime/perPicture, smallestCut), largestCut))
	return min(size, max(defaultShard, total/shareable))
}

// shardsOf is the number of shards for a set of total pictures.
func shardsOf(total, size int) int {
	n := (total + size - 1) / size
	return min(n, maxShards)
}

// part is the range of pictures, counted class after class, that shard i of n renders.
func part(total, i, n int) (from, to int) { return total * i / n, total * (i + 1) / n }

// segmentsOf cuts a range of pictures into ranges of classes.
func segmentsOf(from, to, perClass int, labels []int) []segment {
	var out []segment
	for from < to {
		class, first := from/perClass, from%perClass
		n := min(perClass-first, to-from)
		out = append(out, segment{label: labels[class], first: first, count: n})
		from += n
	}
	return out
}

// work renders one shard. Its result is the blob reference of a tar file of pictures and their manifest.
func (s *Service) work(ctx context.Context, t *runs.Task) ([]byte, error) {
	var q generatorv1.RenderSetRequest
	if err := protojson.Unmarshal(t.Run.Payload, &q); err != nil {
		return nil, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	space, err := s.space(ctx, q.Space)
	if err != nil {
		return nil, err
	}
	decoding, err := decodingOf(q.Rendering, cmp.Or(space.Model, s.cfg.Model))
	if err != nil {
		return nil, runs.Drop(err)
	}
	loaded := stage.Begin(ctx, "load_model")
	model, err := s.model(ctx, space, decoding)
	if err != nil {
		return nil, err
	}
	loaded(0, 0)
	labels, err := labelsOf(space, q.Classes)
	if err != nil {
		return nil, err
	}
	begin, err := s.begin(ctx, q.Init, model, q.Classes)
	if err != nil {
		return nil, err
	}
	j := job{service: s, space: space, model: model, decoding: decoding, sampling: q.Sampling, source: sourceOf(q.Source), begin: begin}
	if gate, err := gateOf(q.Gate); err != nil {
		return nil, runs.Drop(err)
	} else if gate != nil {
		return s.gated(ctx, t, j, *gate, blocksOf(int(q.PerClass), labels))
	}
	from, to := part(int(q.PerClass)*len(labels), t.Shard, t.Run.ShardCount)
	var file bytes.Buffer
	shard := newShard(&file)
	segments := segmentsOf(from, to, int(q.PerClass), labels)
	report := func(done float64) {
		t.Report(int64(done), int64(to-from), "rendering "+space.Classes[segments[0].label].Name)
	}
	kept := s.progressOf(ctx, t.Run, t.Shard)
	if err := j.each(ctx, segments, kept, report, shard.add); err != nil {
		return nil, err
	}
	if err := shard.close(); err != nil {
		return nil, err
	}
	ref, err := s.deps.Blobs.Put(ctx, &file)
	if err != nil {
		return nil, fmt.Errorf("keep shard %d: %w", t.Shard, err)
	}
	kept.remove()
	t.Report(int64(to-from), int64(to-from), "")
	return []byte(ref), nil
}

// labelsOf are the labels of classes, in their order.
func labelsOf(space *embedderv1.Space, classes []string) (labels []int, err error) {
	names := classNames(space)
	for _, class := range classes {
		label := slices.Index(names, class)
		if label < 0 {
			return nil, runs.Drop(fmt.Errorf("%s has no class %q any more", space.Name, class))
		}
		labels = append(labels, label)
	}
	return labels, nil
}

// abandon removes the checkpoints of a run that was cancelled. Those of one that failed serve its retry, and go when it
// is forgotten.
func (s *Service) abandon(ctx context.Context, run runs.Run) {
	if run.State != runs.Cancelled {
		return
	}
	if err := RemoveCheckpoints(s.cfg.Checkpoints, run.Origin); err != nil {
		logs.From(ctx, s.deps.Log).Warn("checkpoints are left", zap.String("run", run.ID), zap.Error(err))
	}
}

// finish enters the set into the catalog. Doing so twice is harmless.
func (s *Service) finish(ctx context.Context, run runs.Run) (string, error) {
	var q generatorv1.RenderSetRequest
	if err := protojson.Unmarshal(run.Payload, &q); err != nil {
		return "", runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	set := &generatorv1.Set{
		Name: ood.Sets.Name(q.SetId), Space: q.Space, Classes: q.Classes, PerClass: q.PerClass,
		Pictures: q.PerClass * int32(len(q.Classes)), Source: q.Source, CreateTime: timestamppb.New(run.Created), Run: ood.Runs.Name(run.ID), Owner: run.Owner,
	}
	if q.Gate != nil {
		if err := s.finishGated(ctx, run, &q, set); err != nil {
			return "", err
		}
	} else {
		for _, shard := range run.Shards {
			set.Shards = append(set.Shards, string(shard.Result))
		}
	}
	for i := 0; set.Rendering == nil && i < len(set.Shards); i++ { // of the first picture; a gate may leave shards empty
		err := s.readShard(ctx, set.Shards[i], func(p *generatorv1.Picture) error {
			if set.Rendering == nil {
				set.Sampling, set.Rendering, set.ModelDigest = p.Record.Sampling, p.Record.Rendering, p.Record.ModelDigest
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return set.Name, s.sets.Settle(ctx, set, func(old *generatorv1.Set) bool { return proto.Equal(old, set) })
}

// finishGated fills in what a gate has taken.
func (s *Service) finishGated(ctx context.Context, run runs.Run, q *generatorv1.RenderSetRequest, set *generatorv1.Set) error {
	gate, err := gateOf(q.Gate)
	if err != nil {
		return runs.Drop(err)
	}
	space, err := s.space(ctx, q.Space)
	if err != nil {
		return err
	}
	labels, err := labelsOf(space, q.Classes)
	if err != nil {
		return err
	}
	set.Gate = q.Gate
	return s.assemble(ctx, run, set, *gate, labels, func() (job, error) {
		decoding, err := decodingOf(q.Rendering, cmp.Or(space.Model, s.cfg.Model))
		if err != nil {
			return job{}, runs.Drop(err)
		}
		model, err := s.model(ctx, space, decoding)
		if err != nil {
			return job{}, err
		}
		begin, err := s.begin(ctx, q.Init, model, q.Classes)
		return job{service: s, space: space, model: model, decoding: decoding, sampling: q.Sampling, source: sourceOf(q.Source), begin: begin}, err
	})
}

// progressOf is the progress of a shard; retries of a run go on from each other's.
func (s *Service) progressOf(ctx context.Context, run runs.Run, shard int) *progress {
	if s.cfg.Checkpoints == "" {
		return nil
	}
	path := filepath.Join(s.cfg.Checkpoints, fmt.Sprintf("%s-%d.ckpt", run.Origin, shard))
	log := logs.From(ctx, s.deps.Log).With(zap.String("checkpoint", path))
	return &progress{
		path: path, saved: time.Now(),
		note: func(what string, err error) {
			if err != nil {
				log.Warn(what, zap.Error(err))
				return
			}
			log.Info(what)
		},
		timed: func() func() {
			end := stage.Begin(ctx, "checkpoint")
			return func() { end(1, 0) }
		},
		wanted: func(end error) bool { return !errors.Is(end, runs.ErrEnded) && !errors.Is(end, runs.ErrFenced) },
	}
}
