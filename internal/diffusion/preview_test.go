package diffusion

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
)

// apart is the mean distance of two pictures' values where the first is
// averaged down to the size of the second.
func apart(final, preview Image) float64 {
	sum := 0.0
	for y := range preview.Height {
		for x := range preview.Width {
			mean := final.mean(y*final.Height/preview.Height, (y+1)*final.Height/preview.Height, x*final.Width/preview.Width, (x+1)*final.Width/preview.Width)
			for k, v := range mean {
				sum += math.Abs(v - float64(preview.Pix[3*(y*preview.Width+x)+k]))
			}
		}
	}
	return sum / float64(len(preview.Pix))
}

// Previews of the reference model come every two calls, for every picture of
// every batch, and come nearer and nearer to the picture; the linear map sees
// its colours. They leave the pictures as they are.
func TestPreviewsComeNearer(t *testing.T) {
	p := openTiny(t, "../../models/reference", Config{Batch: 3, ONNX: onnx.Config{Threads: 2}})
	items := make([]Item, 4)
	for i := range items {
		items[i] = Item{Prompt: "a photo of the ship", Key: philox.Key{Index: uint64(i)}}
	}
	opts := Options{Steps: 9, Guidance: 3, Scheduler: DDIM}
	plain, err := p.Render(t.Context(), items, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method PreviewMethod
		height int
		near   float64 // of the last previews, of 255
	}{{PreviewChosen, 32, 6}, {PreviewDecoder, 32, 6}, {PreviewLinear, 8, 6}} {
		opts.PreviewEvery, opts.PreviewMethod = 2, c.method
		var told []Preview
		opts.Preview = func(v Preview) { told = append(told, v) }
		final, err := p.Render(t.Context(), items, opts)
		if err != nil {
			t.Fatal(err)
		}
		for i := range final {
			if !bytes.Equal(final[i].Pix, plain[i].Pix) {
				t.Errorf("method %d: previews changed picture %d", c.method, i)
			}
		}
		if len(told) != 8 {
			t.Fatalf("method %d: %d previews of two batches, want 4 of each", c.method, len(told))
		}
		for b, n := range []int{3, 1} {
			var gaps []float64
			for i, v := range told[4*b : 4*b+4] {
				if v.First != 3*b || v.Done != 2*i+2 || v.Total != 9 || len(v.Images) != n || v.Images[0].Height != c.height {
					t.Fatalf("method %d, batch %d: preview %d is of %d pictures of height %d from %d on, after %d of %d calls", c.method, b, i, len(v.Images), v.Images[0].Height, v.First, v.Done, v.Total)
				}
				gap := 0.0
				for k, m := range v.Images {
					gap += apart(final[v.First+k], m) / float64(n)
				}
				gaps = append(gaps, gap)
			}
			t.Logf("method %d, batch %d: mean distance to the picture %.1f", c.method, b, gaps)
			if gaps[3] > c.near || gaps[3] >= gaps[0] {
				t.Errorf("method %d, batch %d: previews are %.1f of 255 from the picture, want less and less, at last under %v", c.method, b, gaps, c.near)
			}
		}
	}
}

// A preview that is cancelled in the middle ends the rendering.
func TestPreviewIsCancelled(t *testing.T) {
	_, items, noise := readTiny(t)
	p := openTiny(t, tiny, Config{Noise: noise})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := 0
	_, err := p.Render(ctx, items, Options{Steps: 6, PreviewEvery: 1, Preview: func(Preview) { told++; cancel() }})
	if !errors.Is(err, context.Canceled) || told != 1 {
		t.Errorf("after %d previews: %v", told, err)
	}
}
