package generator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/png"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/stage"
)

// Decoding says how embeddings become pictures; see Rendering in generator.proto. All is set, but of Prompt and Templates
// one.
type Decoding struct {
	Model     string
	Steps     int
	Guidance  float64
	Scheduler string
	Prompt    string // with {} or {class} where the word stands
	Seed      uint64
	Negative  string
	Templates []string // prompts, of which each picture draws one
	Eta       float64
	Strength  float64 // 0 where pictures begin with noise alone
}

// Work is one picture to render: an embedding in place of a word, or the word itself where Embedding is nil.
type Work struct {
	Class     string
	Label     int // of the class; with Index it keys the initial noise
	Index     int
	Word      string
	Embedding []float32
	Own       *Decoding // what a picture has otherwise than the others: prompts, guidance and seed; nil for nothing
	Init      []uint8   // RGB of the picture to begin with, [H, W, 3]; nil for none
	InitFile  string    // its file, for records
	Latents   []float32 // initial noise, [C, h, w]; nil draws it
}

// Rendered is a picture.
type Rendered struct {
	PNG    []byte
	SHA256 string // of PNG, hex
	Pixels string // SHA-256 of the pixels, [height, width, 3] bytes, hex
	Prompt string
}

// Render decodes work with a model. The initial noise of a picture is keyed by (seed, label, index) alone, so a picture
// is the same in any batch, shard and order. report is told the denoising calls done of all. from and save, where they
// are not nil, are a checkpoint to go on from and what is handed the next ones; see diffusion.Options.
func Render(ctx context.Context, p Pipeline, work []Work, d Decoding, report func(done, total int), from *diffusion.Checkpoint, save func(diffusion.Checkpoint)) ([]Rendered, error) {
	return decode(ctx, p, work, d, diffusion.Options{Progress: report, From: from, Save: save})
}

// decode is Render with all that diffusion.Options can watch; the settings in opts are those of d.
func decode(ctx context.Context, p Pipeline, work []Work, d Decoding, opts diffusion.Options) ([]Rendered, error) {
	items := make([]diffusion.Item, len(work))
	for i, w := range work {
		items[i] = d.item(w)
	}
	opts = d.options(opts)
	pictures, err := p.Render(ctx, items, opts)
	if err != nil {
		return nil, err
	}
	out, encoded := make([]Rendered, len(work)), stage.Begin(ctx, "png")
	for i, picture := range pictures {
		if out[i], err = encode(picture); err != nil {
			return nil, fmt.Errorf("picture %d of class %q: %w", work[i].Index, work[i].Class, err)
		}
		out[i].Prompt = items[i].Prompt
	}
	encoded(int64(len(out)), 0)
	return out, nil
}

// encode makes the PNG file of a picture.
func encode(p diffusion.Image) (Rendered, error) {
	img := image.NewNRGBA(image.Rect(0, 0, p.Width, p.Height))
	for i := 0; i < p.Width*p.Height; i++ {
		img.Pix[4*i], img.Pix[4*i+1], img.Pix[4*i+2], img.Pix[4*i+3] = p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2], 255
	}
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		return Rendered{}, err
	}
	sum, pixels := sha256.Sum256(file.Bytes()), sha256.Sum256(p.Pix)
	return Rendered{PNG: file.Bytes(), SHA256: hex.EncodeToString(sum[:]), Pixels: hex.EncodeToString(pixels[:])}, nil
}
