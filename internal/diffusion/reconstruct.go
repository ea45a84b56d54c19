package diffusion

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// checkReconstruct reports items without a picture; nothing else of them counts.
func checkReconstruct(items []Item) error {
	var errs []error
	for i, item := range items {
		if item.Init == nil {
			errs = append(errs, fmt.Errorf("item %d: no picture to reconstruct", i))
		}
	}
	return errors.Join(errs...)
}

// reconstruct encodes the items' pictures to the means of their latents and
// decodes these.
func (p *Pipeline) reconstruct(ctx context.Context, items []Item) ([]Image, error) {
	e, err := p.encoder()
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(items))
	for batch := range slices.Chunk(items, p.batch) {
		latents, err := p.latentsOf(ctx, e, batch, len(images), make([]float32, len(batch)*p.latentSize()))
		if err != nil {
			return nil, err
		}
		done, err := p.vae.decode(ctx, latents, p.batchShape(len(batch)))
		if err != nil {
			return nil, err
		}
		images = append(images, done...)
	}
	return images, nil
}
