package trainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"slices"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/runs"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// outliers reads a set from the generator as a dataset; its labels are those of the classes around which it was imagined,
// which are among the given ones. With the policy random, also is the same pictures by another filter; with crop they
// have their own size, which all must share.
func (s *Service) outliers(ctx context.Context, name, resize string, classes []string, report func(string)) (set, also *dataset.Dataset, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.deps.Generator.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: name})
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", name, err)
	}
	report("reading " + name)
	p := pictureReader{classes: classes, first: dataset.Options{Size: imageSize, Resize: dataset.Resize(resize)}}
	switch resize {
	case resizeRandom:
		p.first.Resize, p.second = dataset.Bilinear, &dataset.Options{Size: imageSize, Resize: dataset.Nearest}
	case resizeCrop:
		p.first.Resize, p.own = "", true
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = p.read(ctx, r.Picture)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	if set, err = dataset.FromPixels(name, classes, p.first.Size, p.pixels, p.labels, p.files); err == nil && p.second != nil {
		also, err = dataset.FromPixels(name, classes, imageSize, p.other, p.labels, p.files)
	}
	return set, also, err
}

// pictureReader decodes the pictures of a set.
type pictureReader struct {
	classes []string
	first   dataset.Options
	second  *dataset.Options // of other; nil where there is none
	own     bool             // pictures keep their size

	pixels, other []uint8
	labels        []int32
	files         []string
}

func (p *pictureReader) read(ctx context.Context, picture *generatorv1.Picture) error {
	record := picture.Record
	label := slices.Index(p.classes, record.Class)
	if label < 0 {
		return runs.Drop(fmt.Errorf("the class %q is none of the training pictures', %v", record.Class, p.classes))
	}
	if p.own {
		c, err := png.DecodeConfig(bytes.NewReader(picture.Png))
		if err != nil {
			return err
		}
		edge := min(c.Width, c.Height)
		if edge < imageSize || len(p.labels) > 0 && edge != p.first.Size {
			return runs.Drop(fmt.Errorf("%s has %d by %d pixels; to be cropped all must have one size, at least %d", record.File, c.Width, c.Height, imageSize))
		}
		p.first.Size = edge
	}
	pixels, err := dataset.Decode(ctx, record.File, picture.Png, p.first)
	if err == nil && p.second != nil {
		var other []uint8
		other, err = dataset.Decode(ctx, record.File, picture.Png, *p.second)
		p.other = append(p.other, other...)
	}
	p.pixels, p.labels, p.files = append(p.pixels, pixels...), append(p.labels, int32(label)), append(p.files, record.File)
	return err
}
