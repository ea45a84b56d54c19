package main

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// EmbeddingsCmd groups the commands on embedding sets.
type EmbeddingsCmd struct {
	Sample EmbeddingsSampleCmd `cmd:"" help:"Sample a set of embeddings of many classes, on all samplers of the mesh."`
	List   EmbeddingsListCmd   `cmd:"" help:"List embedding sets."`
	Show   EmbeddingsShowCmd   `cmd:"" help:"Show one set and how it was made."`
	Export EmbeddingsExportCmd `cmd:"" help:"Write a set as a NumPy file with a manifest."`
	Delete EmbeddingsDeleteCmd `cmd:"" help:"Delete a set."`
}

// EmbeddingsSampleCmd makes an embedding set.
type EmbeddingsSampleCmd struct {
	Set      string   `arg:"" name:"set" field:"set_id" help:"Name of the new set: 1 to 63 of a-z 0-9 - _."`
	Space    string   `required:"" field:"space" placeholder:"NAME" help:"Space to sample from."`
	PerClass int32    `required:"" field:"per_class" placeholder:"N" help:"Embeddings per class, 1 to 1000000."`
	Class    []string `sep:"none" field:"classes" placeholder:"CLASS" help:"Only this class; repeatable, in the order of the array (default: all of the space)."`

	SamplingFlags `embed:""`
	Submission    `embed:""`

	Export string `type:"path" placeholder:"DIR" help:"Write the set to this folder when it is done, as embeddings export does."`
	Force  bool   `help:"With --export: replace an export that the folder holds."`
}

// Help teaches the command.
func (EmbeddingsSampleCmd) Help() string {
	return `Samples embeddings of low likelihood, without rendering them. The work is cut into shards of whole rounds that every
sampler of the mesh takes from one queue. The same space, settings and seed give the same bytes, for any number of
samplers. Embeddings have the length of their class's token embedding, ready to stand in its place.

    dreamood embeddings sample outliers --space cifar10 --per-class 1000
    dreamood embeddings sample many --space cifar10 --per-class 100000 --detach
    dreamood embeddings sample strange-cats --space cifar10 --per-class 500 --class cat --sigma 0.1 --export out/cats

Then: dreamood embeddings export outliers --out out/outliers. To sample files without a server: dreamood sample.`
}

// Validate checks what no server can.
func (c *EmbeddingsSampleCmd) Validate() error {
	if c.Export != "" && !c.Wait {
		return usage("--export needs to wait for the set; leave --detach away, or use embeddings export later")
	}
	return nil
}

// Run submits the sampling and follows it.
func (c *EmbeddingsSampleCmd) Run(ctx context.Context, s *Session) error {
	id, err := identifier(ood.Embeddings, c.Set)
	if err != nil {
		return err
	}
	space, err := resource(ood.Spaces, c.Space)
	if err != nil {
		return err
	}
	sampler, err := client(s, samplerv1.NewSamplerServiceClient)
	if err != nil {
		return err
	}
	made, err := s.submit(ctx, c.Submission, func(requestID string, options *runv1.RunOptions) (*runv1.Run, error) {
		answer, err := sampler.SampleSet(ctx, &samplerv1.SampleSetRequest{
			SetId: id, Space: space, Classes: c.Class, PerClass: c.PerClass, Sampling: c.SamplingFlags.message(), RequestId: requestID, Options: options,
		})
		return answer.GetRun(), err
	})
	if err != nil || made == "" {
		return err
	}
	set, err := s.getEmbeddings(ctx, made)
	if err != nil {
		return err
	}
	if !s.json() {
		s.say("%s is ready: %d embeddings of %d classes", made, set.GetEmbeddings(), len(set.GetClasses()))
	}
	if c.Export != "" {
		return s.exportEmbeddings(ctx, set, embeddingsExport{dir: c.Export, replace: c.Force})
	}
	s.hint("write them to a file: %s", s.command("dreamood embeddings export "+id+" --out out/"+id))
	return nil
}

// EmbeddingsListCmd lists sets.
type EmbeddingsListCmd struct{}

// Run lists sets.
func (c *EmbeddingsListCmd) Run(ctx context.Context, s *Session) error {
	sampler, err := client(s, samplerv1.NewSamplerServiceClient)
	if err != nil {
		return err
	}
	var t owned
	t.head("SET", "SPACE", "CLASSES", "EMBEDDINGS", "DIMENSION", "MADE")
	err = eachPage(func(token string) (string, error) {
		page, err := sampler.ListEmbeddingSets(ctx, &samplerv1.ListEmbeddingSetsRequest{PageToken: token})
		for _, set := range page.GetSets() {
			if s.json() {
				if err := s.object(set); err != nil {
					return "", err
				}
				continue
			}
			t.row(set.GetOwner(), set.GetName(), set.GetSpace(), len(set.GetClasses()), set.GetEmbeddings(), set.GetDimension(), when(set.GetCreateTime()))
		}
		return page.GetNextPageToken(), err
	})
	if err == nil && !s.json() {
		t.print(s.Out)
	}
	return err
}

// EmbeddingsShowCmd shows a set.
type EmbeddingsShowCmd struct {
	Name string `arg:"" name:"set" field:"name" help:"The set."`
}

// Run shows the set.
func (c *EmbeddingsShowCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Embeddings, c.Name)
	if err != nil {
		return err
	}
	set, err := s.getEmbeddings(ctx, name)
	if err != nil || s.json() {
		return err
	}
	var names []string
	same := true
	for _, class := range set.GetClasses() {
		names = append(names, class.GetName())
		same = same && proto.Equal(class.GetSampling(), set.GetClasses()[0].GetSampling())
	}
	var t table
	t.row("set", set.GetName())
	t.row("space", set.GetSpace())
	t.row("bank", set.GetBank())
	t.row("classes", strings.Join(names, ", "))
	t.row("per class", set.GetPerClass())
	t.row("embeddings", set.GetEmbeddings())
	t.row("dimension", set.GetDimension())
	t.row("size", size(4*uint64(set.GetEmbeddings())*uint64(set.GetDimension())))
	t.row("shards", len(set.GetShards()))
	if len(names) > 0 && same {
		t.row("sampling", set.GetClasses()[0].GetSampling())
	} else {
		for _, class := range set.GetClasses() {
			t.row("sampling of "+class.GetName(), class.GetSampling())
		}
	}
	t.row("made", when(set.GetCreateTime()))
	if set.GetOwner() != "" {
		t.row("owner", set.GetOwner())
	}
	t.print(s.Out)
	return nil
}

// getEmbeddings fetches a set, and prints it where results are JSON.
func (s *Session) getEmbeddings(ctx context.Context, name string) (*samplerv1.EmbeddingSet, error) {
	sampler, err := client(s, samplerv1.NewSamplerServiceClient)
	if err != nil {
		return nil, err
	}
	got, err := sampler.GetEmbeddingSet(ctx, &samplerv1.GetEmbeddingSetRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if s.json() {
		return got.GetSet(), s.object(got.GetSet())
	}
	return got.GetSet(), nil
}

// EmbeddingsDeleteCmd deletes a set.
type EmbeddingsDeleteCmd struct {
	Name string `arg:"" name:"set" field:"name" help:"The set."`
}

// Run deletes the set.
func (c *EmbeddingsDeleteCmd) Run(ctx context.Context, s *Session) error {
	sampler, err := client(s, samplerv1.NewSamplerServiceClient)
	if err != nil {
		return err
	}
	return s.remove(ood.Embeddings, c.Name, func(name string) (proto.Message, error) {
		return sampler.DeleteEmbeddingSet(ctx, &samplerv1.DeleteEmbeddingSetRequest{Name: name})
	})
}
