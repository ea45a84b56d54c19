package main

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// SpaceCmd groups the commands on embedding spaces.
type SpaceCmd struct {
	Train  SpaceTrainCmd  `cmd:"" help:"Learn a space from labelled pictures."`
	List   SpaceListCmd   `cmd:"" help:"List spaces."`
	Get    SpaceGetCmd    `cmd:"" help:"Show one space: classes, words, accuracy."`
	Delete SpaceDeleteCmd `cmd:"" help:"Delete a space; sets and detectors made from it stay."`
	Embed  SpaceEmbedCmd  `cmd:"" help:"Embed pictures: the nearest class of each, and its cosine."`
	Export SpaceExportCmd `cmd:"" help:"Write the bank and the anchors as NumPy files."`
}

// Help teaches the command.
func (SpaceCmd) Help() string {
	return `A space is where a picture lies near the token embedding of its class name, so that points between and beyond
the classes can be turned into pictures by the diffusion model that the names belong to. It is learnt once per
dataset and used by imagine and render.`
}

// SpaceListCmd lists spaces.
type SpaceListCmd struct{}

// Run lists spaces.
func (c *SpaceListCmd) Run(ctx context.Context, s *Session) error {
	embedder, err := client(s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return err
	}
	var t owned
	t.head("SPACE", "CLASSES", "DIMENSION", "MODEL", "ACCURACY", "MADE")
	err = eachPage(func(token string) (string, error) {
		page, err := embedder.ListSpaces(ctx, &embedderv1.ListSpacesRequest{PageToken: token})
		for _, space := range page.GetSpaces() {
			if s.json() {
				if err := s.object(space); err != nil {
					return "", err
				}
				continue
			}
			t.row(space.GetOwner(), space.GetName(), len(space.GetClasses()), space.GetDimension(), space.GetModel(), percent(space.GetAccuracy()), when(space.GetCreateTime()))
		}
		return page.GetNextPageToken(), err
	})
	if err == nil && !s.json() {
		t.print(s.Out)
	}
	return err
}

// SpaceGetCmd shows a space.
type SpaceGetCmd struct {
	Name string `arg:"" name:"space" field:"name" help:"The space."`
}

// Run shows the space.
func (c *SpaceGetCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Spaces, c.Name)
	if err != nil {
		return err
	}
	space, err := s.getSpace(ctx, name)
	if err != nil || s.json() {
		return err
	}
	var t table
	t.row("space", space.GetName())
	t.row("model", space.GetModel())
	t.row("dimension", space.GetDimension())
	t.row("image size", fmt.Sprintf("%d px", space.GetImageSize()))
	t.row("accuracy", percent(space.GetAccuracy())+" of held-out pictures")
	if loss := space.GetLoss(); len(loss) > 0 {
		last := loss[len(loss)-1]
		t.row("loss", fmt.Sprintf("%.3f at step %d", last.GetLoss(), last.GetStep()))
	}
	t.row("dataset", space.GetDatasetDigest())
	t.row("made", when(space.GetCreateTime()))
	if space.GetOwner() != "" {
		t.row("owner", space.GetOwner())
	}
	t.print(s.Out)
	s.say("")
	var classes table
	classes.row("CLASS", "WORD", "EMBEDDINGS")
	for _, class := range space.GetClasses() {
		classes.row(class.GetName(), class.GetWord(), class.GetCount())
	}
	classes.print(s.Out)
	return nil
}

// getSpace fetches a space, and prints it where results are JSON.
func (s *Session) getSpace(ctx context.Context, name string) (*embedderv1.Space, error) {
	embedder, err := client(s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return nil, err
	}
	got, err := embedder.GetSpace(ctx, &embedderv1.GetSpaceRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if s.json() {
		return got.GetSpace(), s.object(got.GetSpace())
	}
	return got.GetSpace(), nil
}

// SpaceDeleteCmd deletes a space.
type SpaceDeleteCmd struct {
	Name string `arg:"" name:"space" field:"name" help:"The space."`
}

// Run deletes the space.
func (c *SpaceDeleteCmd) Run(ctx context.Context, s *Session) error {
	embedder, err := client(s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return err
	}
	return s.remove(ood.Spaces, c.Name, func(name string) (proto.Message, error) {
		return embedder.DeleteSpace(ctx, &embedderv1.DeleteSpaceRequest{Name: name})
	})
}
