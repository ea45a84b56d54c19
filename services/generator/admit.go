package generator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// plan holds the request against its space, refuses what cannot work, completes the request and cuts it into shards.
func (s *Service) plan(ctx context.Context, payload []byte, run string) (runs.Plan, error) {
	var q generatorv1.RenderSetRequest
	if err := protojson.Unmarshal(payload, &q); err != nil {
		return runs.Plan{}, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	if err := s.checkFields(&q); err != nil {
		return runs.Plan{}, err
	}
	space, err := s.space(ctx, q.Space)
	if err != nil {
		return runs.Plan{}, err
	}
	if len(q.Classes) == 0 {
		q.Classes = classNames(space)
	}
	var c fault.Checks
	c.That(!q.ValidateOnly, "validate_only", "is for RenderSet, not for a step of a pipeline")
	decoding, derr := decodingOf(q.Rendering, cmp.Or(space.Model, s.cfg.Model))
	for i, class := range q.Classes {
		c.That(slices.Contains(classNames(space), class), fmt.Sprintf("classes[%d]", i), "%s has no class %q; it has %s", q.Space, class, classNames(space))
		c.That(!slices.Contains(q.Classes[:i], class), fmt.Sprintf("classes[%d]", i), "%q is named twice", class)
	}
	if err := fault.Join(c.Err(), derr); err != nil {
		return runs.Plan{}, err
	}
	if decoding, err = checkInit(q.Init, decoding); err != nil {
		return runs.Plan{}, err
	}
	gate, err := gateOf(q.Gate)
	if err != nil {
		return runs.Plan{}, err
	}
	q.Source, q.Rendering, q.Gate = sourceOf(q.Source), decoding.message(), gate.message()
	if err := errors.Join(s.admit(ctx, &q, space, decoding, run), s.admitGate(ctx, gate, q.Classes)); err != nil {
		return runs.Plan{}, err
	}
	if payload, err = protojson.Marshal(&q); err != nil {
		return runs.Plan{}, err
	}
	perPicture, err := s.deps.Runs.PerUnit(ctx, KindRenderSet)
	total := int(q.PerClass) * len(q.Classes)
	size := cmp.Or(s.cfg.ShardSize, shardSize(total, perPicture))
	shards := shardsOf(total, size)
	if gate != nil {
		shards = min(shards, len(blocksOf(int(q.PerClass), make([]int, len(q.Classes)))))
	}
	return runs.Plan{Payload: payload, Total: int64(total), Shards: shards}, err
}

// CheckRenderSet looks at the fields of a request alone, whatever the server allows.
func CheckRenderSet(q *generatorv1.RenderSetRequest) error {
	var c fault.Checks
	c.That(ood.ValidID(q.SetId), "set_id", "%q; want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", q.SetId)
	c.That(q.PerClass >= 1, "per_class", "%d; want at least 1", q.PerClass)
	if _, err := ood.Spaces.ID(q.Space); err != nil {
		c.Add("space", "%v", err)
	}
	_, err := decodingOf(q.Rendering, Config{}.withDefaults().Model)
	_, gerr := gateOf(q.Gate)
	return fault.Join(c.Err(), err, gerr)
}

// checkFields looks at what can be said without the space.
func (s *Service) checkFields(q *generatorv1.RenderSetRequest) error {
	var c fault.Checks
	most := s.cfg.Limits.PerClass
	c.That(int(q.PerClass) <= most, "per_class", "%d; this server allows 1 to %d", q.PerClass, most)
	decoding, _ := decodingOf(q.Rendering, s.cfg.Model) // CheckRenderSet tells what is wrong with it
	c.That(q.Init.GetPicture() == nil, "init.picture", "is for RenderOutliers; a set takes init.dataset")
	_, err := checkInit(q.Init, decoding)
	return fault.Join(CheckRenderSet(q), c.Err(), err, s.cfg.Limits.check(decoding))
}

// admit refuses what cannot work, before anything is queued: a taken id, a model that is not there, settings of the
// sampler that do not fit the bank, a prompt without the word.
func (s *Service) admit(ctx context.Context, q *generatorv1.RenderSetRequest, space *embedderv1.Space, d Decoding, run string) error {
	if err := errors.Join(s.sets.Free(ctx, q.SetId), s.deps.Runs.FreeTarget(ctx, KindRenderSet, ood.Sets.Name(q.SetId), run)); err != nil {
		return err
	}
	model, err := s.model(ctx, space, d)
	if err != nil {
		return err
	}
	if err := s.cfg.Limits.fits(ctx, model, d.Model); err != nil {
		return err
	}
	if _, err := s.begin(ctx, q.Init, model, q.Classes); err != nil {
		return err
	}
	for _, class := range space.Classes {
		if !slices.Contains(q.Classes, class.Name) {
			continue
		}
		if err := checkPrompt(model, d, class.Word, make([]float32, model.Width())); err != nil {
			return err
		}
		if q.Source == generatorv1.Source_SOURCE_WORDS {
			continue
		}
		_, err := s.deps.Sampler.DescribeBoundary(ctx, &samplerv1.DescribeBoundaryRequest{Space: space.Name, Class: class.Name, Sampling: q.Sampling})
		if err != nil {
			return fmt.Errorf("ask the sampler about class %q: %w", class.Name, err)
		}
	}
	return nil
}
