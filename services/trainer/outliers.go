package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dreamood/dreamood/internal/dataset"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// outliers reads a set from the generator as a dataset; its labels are the classes around which it was imagined.
func (s *Service) outliers(ctx context.Context, name string, report func(string)) (*dataset.Dataset, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.deps.Generator.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: name})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	report("reading " + name)
	var classes, files []string
	var pixels []uint8
	var labels []int32
	known := map[string]int32{}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		record := r.Picture.Record
		picture, err := dataset.Decode(ctx, record.File, r.Picture.Png, dataset.Options{Size: imageSize})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		label, ok := known[record.Class]
		if !ok {
			label = int32(len(classes))
			known[record.Class] = label
			classes = append(classes, record.Class)
		}
		pixels, labels, files = append(pixels, picture...), append(labels, label), append(files, record.File)
	}
	return dataset.FromPixels(name, classes, imageSize, pixels, labels, files)
}
