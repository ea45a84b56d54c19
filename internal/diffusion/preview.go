package diffusion

import (
	"context"
	"fmt"
	"math"
	"sync"

	"gonum.org/v1/gonum/mat"

	"github.com/dreamood/dreamood/internal/philox"
)

// Preview is what a batch is expected to become, as seen between two calls of
// the U-Net. It is not what Render returns in the end.
type Preview struct {
	First  int // index of Images[0] among the items of Render
	Done   int // U-Net calls of this batch so far
	Total  int // all of them
	Images []Image
}

// PreviewMethod says how expected latents become a picture.
type PreviewMethod int

// The methods of previews.
const (
	PreviewChosen  PreviewMethod = iota // PreviewDecoder up to decodedPreview latents, else PreviewLinear
	PreviewLinear                       // a linear map from a latent to the mean colour of its pixels: [h, w] pixels, next to free
	PreviewDecoder                      // the VAE decoder: whole pictures, the cost of decoding every time
)

// decodedPreview is the largest h·w whose latents are decoded by default: the
// linear map would give less than 17 by 17 pixels.
const decodedPreview = 16 * 16

// previews says whether a preview is due after so many of all calls.
func (o Options) previews(done, total int) bool {
	return o.Preview != nil && o.PreviewEvery > 0 && done%o.PreviewEvery == 0 && done < total
}

// preview hands over the n pictures of the latents that a batch is expected to
// have in the end, [n, C, h, w].
func (p *Pipeline) preview(ctx context.Context, opts Options, done, total int, latents []float32) error {
	size := p.latentSize()
	n := len(latents) / size
	method := opts.PreviewMethod
	if method == PreviewChosen {
		method = PreviewLinear
		if p.unet.height*p.unet.width <= decodedPreview {
			method = PreviewDecoder
		}
	}
	images := make([]Image, n)
	if method == PreviewDecoder {
		shape := p.batchShape(n)
		var err error
		if images, err = p.vae.decode(ctx, latents, shape); err != nil {
			return fmt.Errorf("preview: %w", err)
		}
	} else {
		c, err := p.colours.of(ctx, p)
		if err != nil {
			return fmt.Errorf("preview: %w", err)
		}
		for i := range images {
			images[i] = c.picture(latents[i*size:(i+1)*size], p.unet.height, p.unet.width)
		}
	}
	opts.Preview(Preview{First: opts.first, Done: done, Total: total, Images: images})
	return nil
}

// colours is the linear map from the C numbers of a latent, and 1, to the mean
// R, G and B of its pixels, in [0, 255]. It is fitted to the decoder when it
// is first asked for.
type colours struct {
	mu      sync.Mutex
	weights [][3]float64 // [C+1]
}

// The map is fitted to pictures of so many squares a side, at least so many
// squares for each weight of a colour. Decoders smooth away smaller ones, and
// may normalise away what is all one colour. The ridge keeps the map sound
// where a channel says nothing.
const (
	squares = 2
	each    = 4
	ridge   = 1e-3
)

func (c *colours) of(ctx context.Context, p *Pipeline) (*colours, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.weights != nil {
		return c, nil
	}
	channels, h, w := p.unet.channels, p.unet.height, p.unet.width
	n := (each*(channels+1) + squares*squares - 1) / (squares * squares)
	latents := make([]float32, n*channels*h*w)
	drawPatches(latents, h, w, max(1, min(h, w)/squares))
	terms := mat.NewDense(n*h*w, channels+1, nil)
	means := mat.NewDense(n*h*w, 3, nil)
	for i := range n { // one at a time: large ones need much memory
		pictures, err := p.vae.decode(ctx, latents[i*channels*h*w:(i+1)*channels*h*w], []int64{1, int64(channels), int64(h), int64(w)})
		if err != nil {
			return nil, err
		}
		picture := pictures[0]
		for y := range h {
			for x := range w {
				row := (i*h+y)*w + x
				for k := range channels {
					terms.Set(row, k, float64(latents[((i*channels+k)*h+y)*w+x]))
				}
				terms.Set(row, channels, 1)
				rgb := picture.mean(y*picture.Height/h, (y+1)*picture.Height/h, x*picture.Width/w, (x+1)*picture.Width/w)
				means.SetRow(row, rgb[:])
			}
		}
	}
	var normal, right, solved mat.Dense
	normal.Mul(terms.T(), terms)
	for k := range channels + 1 {
		normal.Set(k, k, normal.At(k, k)*(1+ridge))
	}
	right.Mul(terms.T(), means)
	if err := solved.Solve(&normal, &right); err != nil {
		return nil, fmt.Errorf("fit a linear map to the decoder: %w", err)
	}
	for k := range channels + 1 {
		c.weights = append(c.weights, [3]float64(solved.RawRowView(k)))
	}
	return c, nil
}

// drawPatches fills latents [B, C, h, w] with standard normal numbers that are
// the same over squares, since neighbours in latents of pictures are alike.
func drawPatches(latents []float32, h, w, side int) {
	philox.Normals(latents, philox.Key{Purpose: "diffusion.colours"})
	for plane := range len(latents) / (h * w) {
		of := latents[plane*h*w : (plane+1)*h*w]
		for i := range of {
			of[i] = of[i/w/side*side*w+i%w/side*side]
		}
	}
}

// mean is the mean colour of some pixels.
func (m Image) mean(top, bottom, left, right int) (rgb [3]float64) {
	bottom, right = max(bottom, top+1), max(right, left+1)
	for y := top; y < bottom; y++ {
		for x := left; x < right; x++ {
			for k := range 3 {
				rgb[k] += float64(m.Pix[3*(y*m.Width+x)+k])
			}
		}
	}
	for k := range rgb {
		rgb[k] /= float64((bottom - top) * (right - left))
	}
	return rgb
}

// picture maps the latents of one picture, [C, h, w].
func (c *colours) picture(latents []float32, h, w int) Image {
	out := Image{Pix: make([]uint8, 3*h*w), Height: h, Width: w}
	last := len(c.weights) - 1
	for i := range h * w {
		rgb := c.weights[last]
		for k, weights := range c.weights[:last] {
			for j := range rgb {
				rgb[j] += weights[j] * float64(latents[k*h*w+i])
			}
		}
		for j, v := range rgb {
			if v == v { // a latent that is not finite stays black
				out.Pix[3*i+j] = uint8(math.RoundToEven(max(0, min(255, v))))
			}
		}
	}
	return out
}
