package main

import (
	"context"

	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// RenderCmd renders outliers at once.
type RenderCmd struct {
	Space  string `required:"" field:"space" placeholder:"NAME" help:"Space to sample from."`
	Class  string `required:"" field:"class" placeholder:"CLASS" help:"Class of the space."`
	Count  int32  `required:"" field:"count" placeholder:"N" help:"How many, 1 to 1000; larger wishes are for imagine."`
	Offset int32  `field:"offset" placeholder:"N" help:"Index of the first one: index i is the same picture in every request (default 0)."`
	Out    string `required:"" type:"path" placeholder:"DIR" help:"Folder to write to: CLASS/INDEX.png and manifest.jsonl."`
	Force  bool   `help:"Replace an export that the folder holds."`

	SamplingFlags  `embed:""`
	RenderingFlags `embed:""`
	PreviewFlags   `embed:""`
}

// Help teaches the command.
func (RenderCmd) Help() string {
	return `Samples, renders and writes pictures as they are made; nothing is kept on the server.

    dreamood render --space cifar10 --class dog --count 16 --out out/dogs
    dreamood render --space cifar10 --class dog --count 16 --out out/dog-words --source words
    dreamood render --space cifar10 --class dog --count 16 --out out/dogs --preview out/watch --preview-every 2`
}

// Run renders the pictures.
func (c *RenderCmd) Run(ctx context.Context, s *Session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	space, err := resource(ood.Spaces, c.Space)
	if err != nil {
		return err
	}
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	q := &generatorv1.RenderOutliersRequest{
		Space: space, Class: c.Class, Count: c.Count, Offset: c.Offset,
		Sampling: c.SamplingFlags.message(), Rendering: c.RenderingFlags.message(), Source: c.RenderingFlags.source(),
	}
	if err := c.PreviewFlags.request(q); err != nil {
		return err
	}
	shown, err := c.PreviewFlags.open()
	if err != nil {
		return err
	}
	defer shown.close()
	stream, err := generator.RenderOutliers(ctx, q)
	if err != nil {
		return err
	}
	return s.export(ctx, "render "+c.Class, c.Out, ExportFlags{Format: formFolder, ShardSize: 1, Force: c.Force}, int(c.Count), func() (*generatorv1.Picture, error) {
		for {
			answer, err := stream.Recv()
			if err != nil || answer.GetPreview() == nil {
				return answer.GetPicture(), err
			}
			if err := shown.add(answer.GetPreview()); err != nil {
				return nil, err
			}
		}
	})
}
