package generator

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// provenance is what the records of a job share: how and with what its pictures were decoded.
type provenance struct {
	digest    string
	parts     map[string]string
	scheduler *structpb.Struct
	rendering func(Work) *generatorv1.Rendering
	version   string
	tokens    func(prompt string) ([]int32, error)
}

func (j job) provenance() (provenance, error) {
	return provenanceOf(j.model, j.decoding, j.service.cfg.Version)
}

func provenanceOf(model Pipeline, d Decoding, version string) (a provenance, err error) {
	if a.digest, err = model.Digest(); err != nil {
		return a, err
	}
	if a.parts, err = model.PartDigests(); err != nil {
		return a, err
	}
	options, err := model.SchedulerOptions()
	if err != nil {
		return a, err
	}
	if a.scheduler, err = structpb.NewStruct(options); err != nil {
		return a, fmt.Errorf("options of the scheduler: %w", err)
	}
	a.rendering = func(w Work) *generatorv1.Rendering {
		m := d.of(w).message()
		m.Scheduler = model.SchedulerName(d.Scheduler)
		return m
	}
	a.version = version
	known := map[string][]int32{} // a job has few prompts
	a.tokens = func(prompt string) ([]int32, error) {
		if ids, ok := known[prompt]; ok {
			return ids, nil
		}
		ids, err := model.Tokens(prompt)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			known[prompt] = append(known[prompt], int32(id))
		}
		return known[prompt], nil
	}
	return a, nil
}

// complete writes into the record of a picture how it was rendered and what came of it.
func (a provenance) complete(r *generatorv1.PictureRecord, p Rendered, w Work) (err error) {
	r.Sha256, r.PixelsSha256, r.Prompt = p.SHA256, p.Pixels, p.Prompt
	r.ModelDigest, r.ModelParts, r.SchedulerOptions = a.digest, a.parts, a.scheduler
	r.Rendering, r.Version = a.rendering(w), a.version
	r.TokenIds, err = a.tokens(p.Prompt)
	return err
}

// Replay renders the pictures of records again, one batch at a time; their settings must be the same but for class and
// index. The result is bit for bit what the records name where model, engine and kind of machine are theirs.
func Replay(ctx context.Context, model Pipeline, records []*generatorv1.PictureRecord) ([]Rendered, error) {
	if len(records) == 0 {
		return nil, nil
	}
	d, err := decodingOf(records[0].Rendering, records[0].Rendering.GetModel())
	if err != nil {
		return nil, err
	}
	var work []Work
	for _, r := range records {
		if r.Label == nil {
			return nil, fault.New(fault.FailedPrecondition, "%s has no label, which keys its noise: it was rendered by an older version; replay it on the server", r.File)
		}
		w := Work{Class: r.Class, Label: int(*r.Label), Index: int(r.Index), Word: r.Word}
		if r.Source != generatorv1.Source_SOURCE_WORDS {
			w.Embedding = r.Embedding
		}
		if r.Init != nil {
			return nil, fault.New(fault.FailedPrecondition, "%s began with the picture %q, which its record does not hold: render it again with that picture", r.File, r.Init.File)
		}
		if r.LatentsSha256 != "" {
			return nil, fault.New(fault.FailedPrecondition, "%s began with noise that was given, which its record does not hold: render it again with those latents", r.File)
		}
		if got := d.prompt(w); got != r.Prompt {
			return nil, fmt.Errorf("%s: its prompt is %q, its settings give %q: the record was changed", r.File, r.Prompt, got)
		}
		work = append(work, w)
	}
	return Render(ctx, model, work, d, nil, nil, nil)
}
