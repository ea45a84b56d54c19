package generator

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

const maxShards = 512 // of one run

// space asks the embedder for a space.
func (s *Service) space(ctx context.Context, name string) (*embedderv1.Space, error) {
	r, err := s.deps.Embedder.GetSpace(ctx, &embedderv1.GetSpaceRequest{Name: name})
	if err != nil {
		return nil, fmt.Errorf("ask the embedder for %q: %w", name, err)
	}
	return r.Space, nil
}

// model opens the diffusion model of a decoding, to be used until ctx ends, and checks that the space fits it.
func (s *Service) model(ctx context.Context, space *embedderv1.Space, d Decoding) (Pipeline, error) {
	p, err := s.models.get(ctx, d.Model)
	if err != nil {
		return nil, err
	}
	if w := p.Width(); w != int(space.Dimension) {
		return nil, fault.Invalid("rendering.model", "token embeddings of %s have %d dimensions, those of %s have %d; train a space for this model", d.Model, w, space.Name, space.Dimension)
	}
	return p, nil
}

// RenderOutliers samples, renders and streams pictures, a batch at a time.
func (s *Service) RenderOutliers(q *generatorv1.RenderOutliersRequest, stream generatorv1.GeneratorService_RenderOutliersServer) (err error) {
	defer func() { err = answer(err) }()
	ctx := stream.Context()
	space, err := s.space(ctx, q.Space)
	if err != nil {
		return err
	}
	given, most := len(q.Embeddings), s.cfg.Limits.Pictures
	var c fault.Checks
	label := slices.IndexFunc(space.Classes, func(c *embedderv1.SpaceClass) bool { return c.Name == q.Class })
	c.That(label >= 0, "class", "%s has no class %q; it has %s", q.Space, q.Class, classNames(space))
	c.That(given > 0 || q.Count >= 1 && int(q.Count) <= most, "count", "%d; this server allows 1 to %d; larger wishes go to RenderSet", q.Count, most)
	c.That(given <= most, "embeddings", "%d; this server allows at most %d", given, most)
	c.That(q.Offset >= 0, "offset", "%d; want 0 or more", q.Offset)
	for i, e := range q.Embeddings {
		n, d := len(e.Values), int(space.Dimension)
		c.That(n > 0 && n%d == 0, fmt.Sprintf("embeddings[%d]", i), "has %d values; want %d for each token of the class's word", n, d)
	}
	decoding, derr := decodingOf(q.Rendering, cmp.Or(space.Model, s.cfg.Model))
	watch, perr := previewingOf(q)
	decoding, ierr := checkInit(q.Init, decoding)
	owns := make([]*Decoding, max(1, given))
	for i, e := range q.Embeddings {
		var oerr error
		if owns[i], oerr = decoding.with(e.Rendering); oerr != nil {
			c.Add(fmt.Sprintf("embeddings[%d].rendering", i), "%v", oerr)
		}
	}
	if err := fault.Join(c.Err(), derr, perr, ierr, s.cfg.Limits.check(decoding)); err != nil {
		return err
	}
	model, err := s.model(ctx, space, decoding)
	if err != nil {
		return err
	}
	if err := s.cfg.Limits.fits(ctx, model, decoding.Model); err != nil {
		return err
	}
	if err := s.checkPrompts(model, decoding, space.Classes[label].Word, q.Embeddings, owns); err != nil {
		return err
	}
	begin, err := s.begin(ctx, q.Init, model, []string{q.Class})
	if err != nil {
		return err
	}
	j := job{service: s, space: space, model: model, decoding: decoding, sampling: q.Sampling, source: sourceOf(q.Source), begin: begin}
	n := int(q.Count)
	if given > 0 {
		n, j.given = given, q.Embeddings
	}
	t, err := s.queue.admit(ctx, decoding.Model, n, model.Batch(), decoding.evaluations())
	if err != nil {
		return err
	}
	defer t.leave()
	return j.live(ctx, t, label, int(q.Offset), n, watch, stream.Send)
}

// checkPrompts refuses prompts that do not hold the word, those of single embeddings too.
func (s *Service) checkPrompts(model Pipeline, d Decoding, word string, given []*generatorv1.EmbeddingValues, owns []*Decoding) error {
	if len(given) == 0 {
		return checkPrompt(model, d, word, make([]float32, model.Width()))
	}
	for i, e := range given {
		own := d
		if owns[i] != nil {
			own = *owns[i]
		}
		if err := fault.Join(s.cfg.Limits.check(own), checkPrompt(model, own, word, e.Values)); err != nil {
			return fmt.Errorf("embeddings[%d]: %w", i, err)
		}
	}
	return nil
}

// RenderSet checks the request and queues it in shards.
func (s *Service) RenderSet(ctx context.Context, q *generatorv1.RenderSetRequest) (*generatorv1.RenderSetResponse, error) {
	if err := s.checkFields(q); err != nil {
		return nil, err
	}
	if q.ValidateOnly {
		e, err := s.estimate(ctx, q)
		return &generatorv1.RenderSetResponse{Estimate: e}, err
	}
	payload, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	run, _, err := s.deps.Runs.Submit(ctx, runs.Spec{
		Kind: KindRenderSet, RequestID: q.RequestId, Owner: auth.Owner(ctx), Options: runs.OptionsOf(q.Options), Payload: payload, Target: ood.Sets.Name(q.SetId),
		Unit: "pictures", Plan: s.plan,
	})
	if err != nil {
		return nil, runs.Fault(err)
	}
	return &generatorv1.RenderSetResponse{Run: run.Proto()}, nil
}

// GetSet returns a set.
func (s *Service) GetSet(ctx context.Context, q *generatorv1.GetSetRequest) (*generatorv1.GetSetResponse, error) {
	set, err := s.sets.Named(ctx, "name", q.Name)
	if err != nil {
		return nil, err
	}
	return &generatorv1.GetSetResponse{Set: set}, nil
}

// ListSets returns a page of sets.
func (s *Service) ListSets(ctx context.Context, q *generatorv1.ListSetsRequest) (*generatorv1.ListSetsResponse, error) {
	list, next, err := s.sets.Page(ctx, q.PageSize, q.PageToken)
	if err != nil {
		return nil, err
	}
	return &generatorv1.ListSetsResponse{Sets: list, NextPageToken: next}, nil
}

// StreamSet streams the pictures of a set.
func (s *Service) StreamSet(q *generatorv1.StreamSetRequest, stream generatorv1.GeneratorService_StreamSetServer) error {
	set, err := s.sets.Named(stream.Context(), "name", q.Name)
	if err != nil {
		return err
	}
	for i, class := range q.Classes {
		if !slices.Contains(set.Classes, class) {
			return fault.Invalid(fmt.Sprintf("classes[%d]", i), "%s has no class %q; it has %s", q.Name, class, set.Classes)
		}
	}
	shards := set.Shards
	if q.Refused {
		shards = set.RefusedShards
	}
	for i, ref := range shards {
		err := s.readShard(stream.Context(), ref, func(p *generatorv1.Picture) error {
			p.Record.Shard = proto.Int32(int32(i))
			if len(q.Classes) > 0 && !slices.Contains(q.Classes, p.Record.Class) {
				return nil
			}
			return stream.Send(&generatorv1.StreamSetResponse{Picture: p})
		})
		if err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
	}
	return nil
}

// DeleteSet removes a set from the catalog.
func (s *Service) DeleteSet(ctx context.Context, q *generatorv1.DeleteSetRequest) (*generatorv1.DeleteSetResponse, error) {
	return &generatorv1.DeleteSetResponse{}, s.sets.Remove(ctx, "name", q.Name)
}

// ListModels names the diffusion models. Those that are not loaded stay so.
func (s *Service) ListModels(context.Context, *generatorv1.ListModelsRequest) (*generatorv1.ListModelsResponse, error) {
	names, err := s.models.names()
	if err != nil {
		return nil, err
	}
	out := &generatorv1.ListModelsResponse{}
	for _, name := range names {
		out.Models = append(out.Models, modelMessage(name, s.models.status(name)))
	}
	return out, nil
}

func classNames(s *embedderv1.Space) []string {
	var names []string
	for _, c := range s.Classes {
		names = append(names, c.Name)
	}
	return names
}

func sourceOf(s generatorv1.Source) generatorv1.Source {
	if s == generatorv1.Source_SOURCE_UNSPECIFIED {
		return generatorv1.Source_SOURCE_OUTLIERS
	}
	return s
}
