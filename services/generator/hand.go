package generator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// Hand renders without a space, a queue and a catalog: what somebody has at hand.
type Hand struct {
	Model    Pipeline
	Name     string                 // of the model, for records
	Settings *generatorv1.Rendering // zero fields are the defaults
	Given    bool                   // pictures to begin with are given
	Version  string                 // of the program, for records
}

// Decoding is that of the settings after defaults. What cannot work is refused, with the work that would.
func (h Hand) Decoding(work []Work) (Decoding, error) {
	d, err := decodingOf(h.Settings, h.Name)
	if err != nil {
		return d, err
	}
	var q *generatorv1.Init
	if h.Given {
		q = &generatorv1.Init{From: &generatorv1.Init_Picture{Picture: []byte{0}}}
	}
	if d, err = checkInit(q, d); err != nil {
		return d, err
	}
	if err := h.Model.Check(d.Items(work), d.options(diffusion.Options{})); err != nil {
		return d, fault.New(fault.InvalidArgument, "%w", err)
	}
	return d, nil
}

// Items are pictures as the model takes them.
func (d Decoding) Items(work []Work) []diffusion.Item {
	items := make([]diffusion.Item, len(work))
	for i, w := range work {
		items[i] = d.item(w)
	}
	return items
}

// Render makes pictures in their order, a batch at a time, with their records. latents, if not nil, is told the latents
// of picture i before the first step and after every one; see diffusion.Options.
func (h Hand) Render(ctx context.Context, d Decoding, work []Work, latents func(i, step int, values []float32), yield func(*generatorv1.Picture) error) error {
	about, err := provenanceOf(h.Model, d, h.Version)
	if err != nil {
		return err
	}
	for first := 0; first < len(work); first += h.Model.Batch() {
		batch := work[first:min(first+h.Model.Batch(), len(work))]
		var opts diffusion.Options
		if latents != nil {
			opts.Latents = func(_, step int, values []float32) {
				n := len(values) / len(batch)
				for i := range batch {
					latents(first+i, step, values[i*n:(i+1)*n])
				}
			}
		}
		pictures, err := decode(ctx, h.Model, batch, d, opts)
		if err != nil {
			return err
		}
		for i, p := range pictures {
			r := batch[i].record()
			if err := about.complete(r, p, batch[i]); err != nil {
				return err
			}
			if err := yield(&generatorv1.Picture{Png: p.PNG, Record: r}); err != nil {
				return err
			}
		}
	}
	return nil
}

// record is what is known of a picture before it is rendered.
func (w Work) record() *generatorv1.PictureRecord {
	r := &generatorv1.PictureRecord{
		File: fmt.Sprintf("%s/%06d.png", w.Class, w.Index), Class: w.Class, Index: int32(w.Index), Label: proto.Int32(int32(w.Label)),
		Word: w.Word, Embedding: w.Embedding, Source: generatorv1.Source_SOURCE_WORDS,
	}
	if w.Embedding != nil {
		r.Source = generatorv1.Source_SOURCE_OUTLIERS
	}
	if w.Init != nil {
		r.Init = initRecord("", w.InitFile, w.Init)
	}
	if w.Latents != nil {
		h := sha256.New()
		_ = binary.Write(h, binary.LittleEndian, w.Latents) // a hash takes all
		r.LatentsSha256 = hex.EncodeToString(h.Sum(nil))
	}
	return r
}
