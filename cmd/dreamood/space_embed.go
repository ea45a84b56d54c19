package main

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// SpaceEmbedCmd embeds pictures.
type SpaceEmbedCmd struct {
	Name  string   `arg:"" name:"space" field:"space" help:"The space."`
	Files []string `arg:"" name:"file" field:"images" help:"Pictures (PNG, JPEG, WebP), or folders to search for them."`
}

// Help teaches the command.
func (SpaceEmbedCmd) Help() string {
	return `Prints for every picture the class whose anchor is nearest and the cosine to it. The pictures are read here and
sent to the server; with --output json the embeddings come too.

    dreamood space embed cifar10 cat.png holiday/`
}

// Run embeds the pictures.
func (c *SpaceEmbedCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Spaces, c.Name)
	if err != nil {
		return err
	}
	files, err := findPictures(c.Files)
	if err != nil {
		return err
	}
	embedder, err := client(s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return err
	}
	var rows columnsOf
	return exchange(ctx, files, embedder.EmbedImages, func(images [][]byte, first bool) *embedderv1.EmbedImagesRequest {
		message := &embedderv1.EmbedImagesRequest{Images: images}
		if first {
			message.Space = name
		}
		return message
	}, func(batch []string, answer *embedderv1.EmbedImagesResponse) error {
		if len(answer.GetEmbeddings()) != len(batch) {
			return fmt.Errorf("embed %s: the server answered %d pictures with %d embeddings", batch[0], len(batch), len(answer.GetEmbeddings()))
		}
		rows.header(s, batch, "FILE", "CLASS", "COSINE")
		for i, e := range answer.GetEmbeddings() {
			if s.json() {
				if err := s.objectOf(batch[i], e); err != nil {
					return err
				}
				continue
			}
			rows.row(s, batch[i], e.GetClass(), fmt.Sprintf("%.3f", e.GetCosine()))
		}
		return nil
	})
}
