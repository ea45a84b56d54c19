package generator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// defaultStrength is how much of a picture to begin with is drawn anew.
const defaultStrength = 0.8

// maxInit bounds such a picture, encoded, in bytes.
const maxInit = 16 << 20

// beginnings are pictures to begin with, of the model's size. nil has none.
type beginnings struct {
	byClass map[string][]beginning // "" for all classes
}

type beginning struct {
	pixels []uint8 // RGB, [H, W, 3]
	record *generatorv1.InitRecord
}

// of is what picture index of a class begins with.
func (b *beginnings) of(class string, index int) ([]uint8, *generatorv1.InitRecord) {
	if b == nil {
		return nil, nil
	}
	list := b.byClass[class]
	if list == nil {
		list = b.byClass[""]
	}
	one := list[index%len(list)]
	return one.pixels, one.record
}

// checkInit checks what can be said without the model, and completes the decoding.
func checkInit(q *generatorv1.Init, d Decoding) (Decoding, error) {
	var c fault.Checks
	switch from := q.GetFrom().(type) {
	case nil:
		c.That(q == nil, "init", "names no picture and no dataset")
		c.That(d.Strength == 0, "rendering.strength", "%g; there is no picture to begin with: set init", d.Strength)
		return d, c.Err()
	case *generatorv1.Init_Picture:
		c.That(len(from.Picture) > 0 && len(from.Picture) <= maxInit, "init.picture", "%d bytes; want 1 to %d", len(from.Picture), maxInit)
	case *generatorv1.Init_Dataset:
		c.That(from.Dataset != "", "init.dataset", "is empty")
	}
	if d.Strength == 0 {
		d.Strength = defaultStrength
	}
	c.That(int(float64(d.Steps)*d.Strength) >= 1, "rendering.strength", "%g of %d steps leaves none", d.Strength, d.Steps)
	return d, c.Err()
}

// begin reads the pictures that a request begins with, for some classes. nil for none.
func (s *Service) begin(ctx context.Context, q *generatorv1.Init, model Pipeline, classes []string) (*beginnings, error) {
	if q.GetFrom() == nil {
		return nil, nil
	}
	if !model.HasEncoder() {
		return nil, fault.Invalid("init", "the model has no VAE encoder, with which pictures are encoded; add vae_encoder/ to its folder, or choose another")
	}
	height, width, err := model.PictureSize(ctx)
	if err != nil {
		return nil, err
	}
	if file := q.GetPicture(); file != nil {
		pixels, err := Picture(ctx, "init.picture", file, height, width)
		if err != nil {
			return nil, fault.Invalid("init.picture", "%w", err)
		}
		return &beginnings{map[string][]beginning{"": {{pixels, initRecord("", "", pixels)}}}}, nil
	}
	return s.beginDataset(ctx, q.GetDataset(), classes, height, width)
}

func (s *Service) beginDataset(ctx context.Context, name string, classes []string, height, width int) (*beginnings, error) {
	path, err := s.deps.Datasets.Resolve(name)
	if err != nil {
		return nil, fault.Invalid("init.dataset", "%w", err)
	}
	edge := max(height, width)
	ds, err := dataset.Open(ctx, path, dataset.Options{Size: edge})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fault.Invalid("init.dataset", "%w", err)
	}
	b := &beginnings{byClass: map[string][]beginning{}}
	for _, class := range classes {
		label := slices.Index(ds.Classes, class)
		if label < 0 {
			return nil, fault.Invalid("init.dataset", "%s has no class %q; it has %s", name, class, ds.Classes)
		}
		at := ds.Indices(int32(label))
		slices.SortFunc(at, func(i, j int) int { return strings.Compare(ds.Files[i], ds.Files[j]) })
		for _, i := range at {
			pixels := middle(ds.Image(i), edge, height, width)
			b.byClass[class] = append(b.byClass[class], beginning{pixels, initRecord(name, ds.Files[i], pixels)})
		}
	}
	return b, nil
}

func initRecord(name, file string, pixels []uint8) *generatorv1.InitRecord {
	sum := sha256.Sum256(pixels)
	return &generatorv1.InitRecord{Dataset: name, File: filepath.ToSlash(file), PixelsSha256: hex.EncodeToString(sum[:])}
}

// Picture decodes a PNG, JPEG or WebP file to RGB, [height, width, 3]: the largest part in its middle that has this shape
// is resized. name is for errors.
func Picture(ctx context.Context, name string, file []byte, height, width int) ([]uint8, error) {
	return dataset.DecodeTo(ctx, name, file, height, width, dataset.Options{})
}

// middle cuts [height, width, 3] out of the middle of a square.
func middle(square []uint8, edge, height, width int) []uint8 {
	if height == edge && width == edge {
		return square
	}
	out := make([]uint8, 0, 3*height*width)
	top, left := (edge-height)/2, (edge-width)/2
	for y := range height {
		row := 3 * ((top+y)*edge + left)
		out = append(out, square[row:row+3*width]...)
	}
	return out
}
