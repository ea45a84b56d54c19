package main

import (
	"context"
	"errors"
	"io"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// pictures is a stream that pictures come from.
type pictures func() (*generatorv1.Picture, error)

// export writes a stream of pictures to a folder or bucket, total of them where that is known.
func (s *Session) export(ctx context.Context, what, to string, flags ExportFlags, total int, next pictures) error {
	return s.exportEach(ctx, what, to, flags, total, func(yield func(*generatorv1.Picture) error) error {
		for {
			picture, err := next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				err = yield(picture)
			}
			if err != nil {
				return err
			}
		}
	})
}

// exportEach writes the pictures that each yields to a folder or bucket.
func (s *Session) exportEach(ctx context.Context, what, to string, flags ExportFlags, total int, each func(yield func(*generatorv1.Picture) error) error) error {
	f, err := newExporter(ctx, to, flags)
	if err != nil {
		return err
	}
	defer f.close()
	show := s.progress()
	defer show.close()
	count := 0
	err = each(func(picture *generatorv1.Picture) error {
		if err := f.add(ctx, picture); err != nil {
			return err
		}
		count++
		if s.json() {
			if err := s.object(picture.GetRecord()); err != nil {
				return err
			}
		}
		show.show(standing{what: what, done: int64(count), total: int64(total), unit: "pictures"})
		return nil
	})
	if err != nil {
		return err
	}
	if err := f.finish(ctx); err != nil {
		return err
	}
	show.close()
	if !s.json() {
		s.say("%d pictures (%s) and their %s are in %s", count, size(f.bytes), manifestName, to)
	}
	return nil
}

// exportSet writes a set, or some classes of it, to a folder or bucket.
func (s *Session) exportSet(ctx context.Context, name string, classes []string, to string, flags ExportFlags) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	got, err := generator.GetSet(ctx, &generatorv1.GetSetRequest{Name: name})
	if err != nil {
		return err
	}
	total := int(got.GetSet().GetPictures())
	if len(classes) > 0 {
		total = len(classes) * int(got.GetSet().GetPerClass())
	}
	stream, err := generator.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: name, Classes: classes})
	if err != nil {
		return err
	}
	return s.export(ctx, "export "+name, to, flags, total, func() (*generatorv1.Picture, error) {
		answer, err := stream.Recv()
		return answer.GetPicture(), err
	})
}
