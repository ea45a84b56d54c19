package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/runs"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// outliers reads a set from the generator as a dataset; its labels are those of the classes around which it was imagined,
// which are among the given ones.
func (s *Service) outliers(ctx context.Context, name string, classes []string, report func(string)) (*dataset.Dataset, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.deps.Generator.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: name})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	report("reading " + name)
	var files []string
	var pixels []uint8
	var labels []int32
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
		label := slices.Index(classes, record.Class)
		if label < 0 {
			return nil, runs.Drop(fmt.Errorf("%s has the class %q, the training pictures have %v", name, record.Class, classes))
		}
		pixels, labels, files = append(pixels, picture...), append(labels, int32(label)), append(files, record.File)
	}
	return dataset.FromPixels(name, classes, imageSize, pixels, labels, files)
}
