package main

import (
	"context"
	"fmt"
	"os"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// PreviewFlags say whether and how unfinished pictures are shown.
type PreviewFlags struct {
	Preview       string `group:"preview" type:"path" placeholder:"DIR" help:"Folder to write previews to while pictures are denoised: CLASS/INDEX.preview-STEP-of-STEPS.png. They are guesses, not pictures."`
	PreviewEvery  int32  `group:"preview" field:"preview_every" placeholder:"N" help:"Denoising steps between two previews (default 5 with --preview)."`
	PreviewMethod string `group:"preview" field:"preview_method" default:"" enum:",linear,decoder" placeholder:"NAME" help:"linear: one pixel per latent, next to free. decoder: whole pictures, each a run of the decoder (default: decoder for small models)."`
}

const defaultPreviewEvery = 5

// request sets what the flags ask for.
func (f PreviewFlags) request(q *generatorv1.RenderOutliersRequest) error {
	if f.Preview == "" {
		if f.PreviewEvery != 0 || f.PreviewMethod != "" {
			return usage("--preview-every and --preview-method say how previews are made; --preview DIR says where they go")
		}
		return nil
	}
	q.PreviewEvery = f.PreviewEvery
	if q.PreviewEvery == 0 {
		q.PreviewEvery = defaultPreviewEvery
	}
	q.PreviewMethod = map[string]generatorv1.PreviewMethod{
		"": generatorv1.PreviewMethod_PREVIEW_METHOD_UNSPECIFIED, "linear": generatorv1.PreviewMethod_PREVIEW_METHOD_LINEAR,
		"decoder": generatorv1.PreviewMethod_PREVIEW_METHOD_DECODER,
	}[f.PreviewMethod]
	return nil
}

// previews is the folder that they go to.
type previews struct{ folder }

// open makes the folder; without --preview it takes nothing.
func (f PreviewFlags) open() (*previews, error) {
	if f.Preview == "" {
		return &previews{}, nil
	}
	if err := os.MkdirAll(f.Preview, 0o755); err != nil {
		return nil, fmt.Errorf("previews: %w", err)
	}
	root, err := os.OpenRoot(f.Preview)
	if err != nil {
		return nil, fmt.Errorf("previews: %w", err)
	}
	return &previews{folder{dir: f.Preview, root: root}}, nil
}

// add writes one; nothing that the server says leads out of the folder.
func (p *previews) add(v *generatorv1.Preview) error {
	if p.root == nil {
		return nil
	}
	record := &generatorv1.PictureRecord{Class: v.GetClass(), File: fmt.Sprintf("%s/%06d.png", v.GetClass(), v.GetIndex())}
	if problem := badPath(record); problem != "" {
		return fmt.Errorf("previews: the server sent one of the class %q: %s", v.GetClass(), problem)
	}
	return p.write(context.Background(), fmt.Sprintf("%s/%06d.preview-%03d-of-%03d.png", v.GetClass(), v.GetIndex(), v.GetStep(), v.GetSteps()), v.GetPng())
}

func (p *previews) close() {
	if p.root != nil {
		p.root.Close()
	}
}
