package generator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// admit refuses what cannot work, before anything is queued: a taken id, a model that is not there, settings of the
// sampler that do not fit the bank, a prompt without the word.
func (s *Service) admit(ctx context.Context, q *generatorv1.RenderSetRequest, space *embedderv1.Space, d Decoding) error {
	if err := errors.Join(s.sets.Free(ctx, q.SetId), s.deps.Runs.FreeTarget(ctx, KindRenderSet, ood.Sets.Name(q.SetId))); err != nil {
		return err
	}
	model, err := s.model(space, d)
	if err != nil {
		return err
	}
	for _, class := range space.Classes {
		if !slices.Contains(q.Classes, class.Name) {
			continue
		}
		if err := checkPrompt(model, d, class.Word); err != nil {
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
