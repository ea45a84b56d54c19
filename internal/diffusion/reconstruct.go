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
	height, width, err := p.PictureSize(ctx)
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(items))
	for batch := range slices.Chunk(items, p.batch) {
		pictures := make([][]uint8, len(batch))
		for i, item := range batch {
			if pictures[i] = item.Init; len(item.Init) != 3*height*width {
				return nil, fmt.Errorf("item %d: its picture has %d bytes, want %d of RGB for %d×%d pixels", len(images)+i, len(item.Init), 3*height*width, width, height)
			}
		}
		shape := []int64{int64(len(batch)), int64(p.unet.channels), int64(p.unet.height), int64(p.unet.width)}
		latents, err := e.encode(ctx, pictures, height, width, make([]float32, len(batch)*p.latentSize()), shape)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.path, err)
		}
		for i, x := range latents {
			latents[i] = float32((float64(x) - p.vae.shift) * p.vae.scaling)
		}
		done, err := p.vae.decode(ctx, latents, shape)
		if err != nil {
			return nil, err
		}
		images = append(images, done...)
	}
	return images, nil
}
