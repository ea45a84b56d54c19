package trainer

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/philox"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// codecBatch is how many pictures are sent to the generator at once.
const codecBatch = 64

// matchCodec gives a copy of ID pictures of which a share, chosen by the seed, passed through a model's VAE. What the VAE
// loses every rendered outlier lacks, too; a detector that sees it in outliers alone learns that soft is out of
// distribution.
func (s *Service) matchCodec(ctx context.Context, ds *dataset.Dataset, settings Settings, say func(string)) (*dataset.Dataset, error) {
	out := ds.Subset(spreadOver(ds.Len(), ds.Len()))
	chosen := philox.Choose(ds.Len(), int(settings.CodecShare*float64(ds.Len())+0.5), philox.Key{Seed: settings.Seed, Purpose: "trainer.codec"})
	for first := 0; first < len(chosen); first += codecBatch {
		say(fmt.Sprintf("passing ID pictures through the VAE of %s, %d of %d", settings.CodecModel, first, len(chosen)))
		at := chosen[first:min(first+codecBatch, len(chosen))]
		q := &generatorv1.ReconstructImagesRequest{Model: settings.CodecModel}
		for _, i := range at {
			file, err := dataset.EncodePNG(ds.Image(i), ds.Size)
			if err != nil {
				return nil, err
			}
			q.Images = append(q.Images, file)
		}
		r, err := s.deps.Generator.ReconstructImages(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("pass ID pictures through the VAE of %s: %w", settings.CodecModel, err)
		}
		if len(r.Images) != len(at) {
			return nil, fmt.Errorf("pass ID pictures through the VAE of %s: %d pictures came back of %d", settings.CodecModel, len(r.Images), len(at))
		}
		for k, i := range at {
			pixels, err := dataset.Decode(ctx, ds.Files[i], r.Images[k], dataset.Options{Size: ds.Size})
			if err != nil {
				return nil, fmt.Errorf("pass ID pictures through the VAE of %s: %w", settings.CodecModel, err)
			}
			copy(out.Image(i), pixels)
		}
	}
	return out, nil
}
