package generator

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/stage"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// segment is a range of pictures of one class.
type segment struct{ label, first, count int }

// job renders pictures of a space under one set of settings.
type job struct {
	service  *Service
	space    *embedderv1.Space
	model    Pipeline
	decoding Decoding
	sampling *samplerv1.Sampling
	source   generatorv1.Source
	given    []*generatorv1.EmbeddingValues // in place of sampled ones
	begin    *beginnings                    // what pictures begin with; nil: noise alone

	turn    func(ctx context.Context, pictures int) (done func(rendered bool), err error) // before every batch; nil: at once
	preview *previewing                                                                   // nil: none
}

// each renders the segments and hands over every picture in order. report is told how many pictures, counted in parts,
// are done. What kept holds of the same pictures is not rendered again; nil keeps nothing.
func (j job) each(ctx context.Context, segments []segment, kept *progress, report func(done float64), yield func(*generatorv1.Picture) error) error {
	digest, err := j.model.Digest()
	if err != nil {
		return err
	}
	about, err := j.provenance()
	if err != nil {
		return err
	}
	var work []Work
	var records []*generatorv1.PictureRecord
	found := stage.Begin(ctx, "embeddings")
	for _, s := range segments {
		w, r, err := j.embeddings(ctx, s)
		if err != nil {
			return err
		}
		work, records = append(work, w...), append(records, r...)
	}
	found(int64(len(work)), 0)
	kept.open(keyOf(digest, j.decoding, j.model.Batch(), work))
	for done := 0; done < len(work); {
		batch := work[done:min(done+j.model.Batch(), len(work))]
		pictures, whole := kept.pictures(done, len(batch))
		if !whole {
			pictures, err = j.batch(ctx, batch, diffusion.Options{From: kept.from(), Save: kept.step(), Progress: func(step, of int) {
				if report != nil {
					report(float64(done) + float64(len(batch))*float64(step)/float64(of))
				}
			}})
			if err != nil {
				kept.interrupted(ctx)
				return err
			}
			kept.batch(pictures)
		}
		for i, p := range pictures {
			r := records[done+i]
			if err := about.complete(r, p, batch[i]); err != nil {
				return err
			}
			if err := yield(&generatorv1.Picture{Png: p.PNG, Record: r}); err != nil {
				return err
			}
		}
		done += len(batch)
	}
	return nil
}

// embeddings finds what a segment decodes: words, embeddings given by the client, or sampled ones.
func (j job) embeddings(ctx context.Context, s segment) ([]Work, []*generatorv1.PictureRecord, error) {
	class := j.space.Classes[s.label]
	var work []Work
	var records []*generatorv1.PictureRecord
	add := func(index int, embedding []float32) *generatorv1.PictureRecord {
		r := &generatorv1.PictureRecord{
			File: fmt.Sprintf("%s/%06d.png", class.Name, index), Class: class.Name, Index: int32(index), Space: j.space.Name, Bank: j.space.Bank,
			Word: class.Word, Embedding: embedding, Source: j.source, Label: proto.Int32(int32(s.label)),
		}
		w := Work{Class: class.Name, Label: s.label, Index: index, Word: class.Word, Embedding: embedding}
		w.Init, r.Init = j.begin.of(class.Name, index)
		work = append(work, w)
		records = append(records, r)
		return r
	}
	switch {
	case j.given != nil:
		for i, e := range j.given {
			add(s.first+i, e.Values)
			own, err := j.decoding.with(e.Rendering)
			if err != nil {
				return nil, nil, err
			}
			work[len(work)-1].Own = own
		}
	case j.source == generatorv1.Source_SOURCE_WORDS:
		for i := range s.count {
			add(s.first+i, nil)
		}
	default:
		settings, outliers, err := j.sample(ctx, class.Name, s)
		if err != nil {
			return nil, nil, err
		}
		for _, o := range outliers {
			r := add(int(o.Index), o.Values)
			r.Sampling, r.KthDistance, r.AnchorCosine = settings, o.KthDistance, o.AnchorCosine
		}
	}
	return work, records, nil
}

// sample asks the sampler for the embeddings of a segment, and for the settings after defaults.
func (j job) sample(ctx context.Context, class string, s segment) (*samplerv1.Sampling, []*samplerv1.Outlier, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := j.service.deps.Sampler
	boundary, err := client.DescribeBoundary(ctx, &samplerv1.DescribeBoundaryRequest{Space: j.space.Name, Class: class, Sampling: j.sampling})
	if err != nil {
		return nil, nil, fmt.Errorf("ask the sampler about class %q: %w", class, err)
	}
	stream, err := client.SampleOutliers(ctx, &samplerv1.SampleOutliersRequest{
		Space: j.space.Name, Class: class, Count: int32(s.count), Offset: int32(s.first), Sampling: j.sampling, WithoutReport: true,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("sample class %q: %w", class, err)
	}
	var out []*samplerv1.Outlier
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("sample class %q: %w", class, err)
		}
		if r.Outlier != nil { // a sampler may send its report all the same
			out = append(out, r.Outlier)
		}
	}
	if len(out) != s.count {
		return nil, nil, fault.New(fault.Internal, "the sampler gave %d of %d embeddings of class %q", len(out), s.count, class)
	}
	return boundary.Sampling, out, nil
}

// checkPrompt refuses settings that the model cannot follow, and a prompt in which the word's tokens do not stand, before
// anything is rendered. embedding is one that takes the word's place.
func checkPrompt(model Pipeline, d Decoding, word string, embedding []float32) error {
	shared := d.options(diffusion.Options{})
	shared.Strength = 0 // pictures to begin with come later
	if err := model.Check(nil, shared); err != nil {
		if passing(err) {
			return err
		}
		return fault.Invalid("rendering.scheduler", "%w", err)
	}
	for _, prompt := range d.prompts(word) {
		item := diffusion.Item{Prompt: prompt, Negative: d.Negative, Token: word, Embedding: embedding}
		if err := model.Check([]diffusion.Item{item}, shared); err != nil {
			if passing(err) {
				return err
			}
			return fault.Invalid("rendering.prompt", "%w", err)
		}
	}
	return nil
}
