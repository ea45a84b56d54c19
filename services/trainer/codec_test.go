package trainer

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/dataset"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// inverter answers as a generator whose VAE turns black into white, so that what passed through it is seen.
type inverter struct {
	generatorv1.GeneratorServiceClient
	models []string
	calls  int
}

func (g *inverter) ReconstructImages(ctx context.Context, q *generatorv1.ReconstructImagesRequest, _ ...grpc.CallOption) (*generatorv1.ReconstructImagesResponse, error) {
	g.models, g.calls = append(g.models, q.Model), g.calls+1
	out := &generatorv1.ReconstructImagesResponse{}
	for _, file := range q.Images {
		pixels, err := dataset.Decode(ctx, "given", file, dataset.Options{Size: imageSize})
		if err != nil {
			return nil, err
		}
		for i := range pixels {
			pixels[i] = 255 - pixels[i]
		}
		if file, err = dataset.EncodePNG(pixels, imageSize); err != nil {
			return nil, err
		}
		out.Images = append(out.Images, file)
	}
	return out, nil
}

// TestMatchCodecReplacesTheShare: so many pictures, the same ones for a seed, others for another, and nothing of the
// original changes.
func TestMatchCodecReplacesTheShare(t *testing.T) {
	ds := sample(t, "cifar10_train.tar.gz", 15)
	before := bytes.Clone(ds.Pixels)
	replaced := func(share float64, seed uint64) (at []int, g *inverter) {
		g = &inverter{}
		s := &Service{deps: Deps{Generator: g}}
		out, err := s.matchCodec(t.Context(), ds, Settings{CodecShare: share, CodecModel: "m", Seed: seed}, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out.Labels, ds.Labels) {
			t.Error("labels changed")
		}
		for i := range ds.Len() {
			switch a, b := ds.Image(i), out.Image(i); {
			case bytes.Equal(a, b):
			case a[0] == 255-b[0] && a[len(a)-1] == 255-b[len(b)-1]:
				at = append(at, i)
			default:
				t.Errorf("picture %d is neither itself nor its reconstruction", i)
			}
		}
		return at, g
	}
	first, g := replaced(0.5, 1)
	if len(first) != 75 || g.calls != 2 || !slices.Equal(g.models, []string{"m", "m"}) {
		t.Errorf("%d of 150 pictures were replaced in %d calls of %v", len(first), g.calls, g.models)
	}
	if again, _ := replaced(0.5, 1); !slices.Equal(first, again) {
		t.Error("the same seed chose others")
	}
	if other, _ := replaced(0.5, 2); slices.Equal(first, other) {
		t.Error("another seed chose the same")
	}
	if all, _ := replaced(1, 1); len(all) != 150 {
		t.Errorf("%d of 150 with share 1", len(all))
	}
	if !bytes.Equal(before, ds.Pixels) {
		t.Error("the original changed")
	}
}
