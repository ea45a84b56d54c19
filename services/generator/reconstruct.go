package generator

import (
	"cmp"
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// maxReconstructed bounds the pictures of one ReconstructImages.
const maxReconstructed = 256

// ReconstructImages passes pictures through the VAE of a model.
func (s *Service) ReconstructImages(ctx context.Context, q *generatorv1.ReconstructImagesRequest) (_ *generatorv1.ReconstructImagesResponse, err error) {
	defer func() { err = answer(err) }()
	if n := len(q.Images); n < 1 || n > maxReconstructed {
		return nil, fault.Invalid("images", "%d; want 1 to %d", n, maxReconstructed)
	}
	name := cmp.Or(q.Model, s.cfg.Model)
	model, err := s.models.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if !model.HasEncoder() {
		return nil, fault.Invalid("model", "%s has no VAE encoder; add vae_encoder/ to its folder, or name another", name)
	}
	if err := s.cfg.Limits.fits(ctx, model, name); err != nil {
		return nil, err
	}
	height, width, err := model.PictureSize(ctx)
	if err != nil {
		return nil, err
	}
	items := make([]diffusion.Item, len(q.Images))
	for i, file := range q.Images {
		if items[i].Init, err = Picture(ctx, fmt.Sprintf("images[%d]", i), file, height, width); err != nil {
			return nil, fault.Invalid(fmt.Sprintf("images[%d]", i), "%w", err)
		}
	}
	images, err := model.Render(ctx, items, diffusion.Options{Reconstruct: true})
	if err != nil {
		return nil, err
	}
	out := &generatorv1.ReconstructImagesResponse{}
	for _, image := range images {
		file, err := encode(image)
		if err != nil {
			return nil, err
		}
		out.Images = append(out.Images, file.PNG)
	}
	return out, nil
}
