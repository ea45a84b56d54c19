package main

import (
	"context"

	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// ImagineCmd makes an outlier set.
type ImagineCmd struct {
	Set      string   `arg:"" name:"set" field:"set_id" help:"Name of the new set: 1 to 63 of a-z 0-9 - _."`
	Space    string   `required:"" field:"space" placeholder:"NAME" help:"Space to sample from."`
	PerClass int32    `required:"" field:"per_class" placeholder:"N" help:"Pictures per class, 1 to 100000."`
	Class    []string `sep:"none" field:"classes" placeholder:"CLASS" help:"Only this class; repeatable (default: all of the space)."`

	InitDataset string `group:"rendering" field:"init" placeholder:"PATH" help:"Begin with the ID pictures of this dataset of the server, one after another, in place of noise alone: outliers near given pictures."`

	SamplingFlags  `embed:""`
	RenderingFlags `embed:""`
	GateFlags      `embed:""`
	Submission     `embed:""`

	DryRun bool `field:"validate_only" help:"Check the request, say what it would cost, and start nothing."`

	Export      place `placeholder:"DEST" help:"Write the pictures to this folder, or s3://BUCKET/PREFIX, when they are done, as sets export does."`
	ExportFlags `embed:""`
}

// Help teaches the command.
func (ImagineCmd) Help() string {
	return `Samples embeddings of low likelihood at the border of every class and renders each with the diffusion model.
The work is cut into shards that every generator of the mesh takes from one queue. The same space, settings and seeds
give the same pictures, for any number of generators.

    dreamood imagine outliers --space cifar10 --per-class 100
    dreamood imagine strange-cats --space cifar10 --per-class 8 --class cat --sigma 0.1 --export out/cats
    dreamood imagine plain-words --space cifar10 --per-class 8 --source words

Then: dreamood train DETECTOR --set outliers …, or look at them: dreamood sets export outliers --out out/outliers.`
}

// Validate checks what no server can.
func (c *ImagineCmd) Validate() error {
	if c.Export != "" && !c.Wait {
		return usage("--export needs to wait for the pictures; leave --detach away, or use sets export later")
	}
	return nil
}

// Run submits the rendering and follows it.
func (c *ImagineCmd) Run(ctx context.Context, s *Session) error {
	id, err := identifier(ood.Sets, c.Set)
	if err != nil {
		return err
	}
	space, err := resource(ood.Spaces, c.Space)
	if err != nil {
		return err
	}
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	gate, err := c.GateFlags.message()
	if err != nil {
		return err
	}
	q := &generatorv1.RenderSetRequest{
		SetId: id, Space: space, Classes: c.Class, PerClass: c.PerClass, Gate: gate, ValidateOnly: c.DryRun,
		Sampling: c.SamplingFlags.message(), Rendering: c.RenderingFlags.message(), Source: c.RenderingFlags.source(), Init: initDataset(c.InitDataset),
	}
	if c.DryRun {
		answer, err := generator.RenderSet(ctx, q)
		if err != nil {
			return err
		}
		return s.estimate(answer.GetEstimate())
	}
	made, err := s.submit(ctx, c.Submission, func(requestID string, options *runv1.RunOptions) (*runv1.Run, error) {
		q.RequestId, q.Options = requestID, options
		answer, err := generator.RenderSet(ctx, q)
		return answer.GetRun(), err
	})
	if err != nil || made == "" {
		return err
	}
	set, err := s.getSet(ctx, made)
	if err != nil {
		return err
	}
	if !s.json() {
		s.say("%s is ready: %d pictures of %d classes", made, set.GetPictures(), len(set.GetClasses()))
		s.yields(set)
	}
	if c.Export != "" {
		return s.exportSet(ctx, made, nil, string(c.Export), c.ExportFlags)
	}
	s.hint("look at them: %s", s.command("dreamood sets export "+id+" --out out/"+id))
	return nil
}
