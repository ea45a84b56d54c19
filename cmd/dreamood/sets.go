package main

import (
	"context"
	"strings"

	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// SetsCmd groups the commands on outlier sets.
type SetsCmd struct {
	List   SetsListCmd   `cmd:"" help:"List outlier sets."`
	Get    SetsGetCmd    `cmd:"" help:"Show one set and how it was made."`
	Export SetsExportCmd `cmd:"" help:"Write the pictures of a set to a folder."`
	Report SetsReportCmd `cmd:"" help:"Write a page that shows a set and what was refused."`
	Delete SetsDeleteCmd `cmd:"" help:"Delete a set; detectors trained with it stay."`
}

// SetsListCmd lists sets.
type SetsListCmd struct{}

// Run lists sets.
func (c *SetsListCmd) Run(ctx context.Context, s *Session) error {
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	var t owned
	t.head("SET", "SPACE", "CLASSES", "PICTURES", "SOURCE", "MADE")
	err = eachPage(func(token string) (string, error) {
		page, err := generator.ListSets(ctx, &generatorv1.ListSetsRequest{PageToken: token})
		for _, set := range page.GetSets() {
			if s.json() {
				if err := s.object(set); err != nil {
					return "", err
				}
				continue
			}
			t.row(set.GetOwner(), set.GetName(), set.GetSpace(), len(set.GetClasses()), set.GetPictures(), sourceOf(set), when(set.GetCreateTime()))
		}
		return page.GetNextPageToken(), err
	})
	if err == nil && !s.json() {
		t.print(s.Out)
	}
	return err
}

// SetsGetCmd shows a set.
type SetsGetCmd struct {
	Name string `arg:"" name:"set" field:"name" help:"The set."`
}

// Run shows the set.
func (c *SetsGetCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Sets, c.Name)
	if err != nil {
		return err
	}
	set, err := s.getSet(ctx, name)
	if err != nil || s.json() {
		return err
	}
	var t table
	t.row("set", set.GetName())
	t.row("space", set.GetSpace())
	t.row("classes", strings.Join(set.GetClasses(), ", "))
	t.row("pictures", set.GetPictures())
	t.row("source", sourceOf(set))
	if p := set.GetSampling(); p != nil {
		t.row("sampling", p)
	}
	if p := set.GetRendering(); p != nil {
		t.row("rendering", p)
	}
	t.row("model", set.GetModelDigest())
	if p := set.GetGate(); p != nil {
		t.row("gate", p)
	}
	t.row("made", when(set.GetCreateTime()))
	if set.GetOwner() != "" {
		t.row("owner", set.GetOwner())
	}
	t.print(s.Out)
	s.yields(set)
	return nil
}

// getSet fetches a set, and prints it where results are JSON.
func (s *Session) getSet(ctx context.Context, name string) (*generatorv1.Set, error) {
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return nil, err
	}
	got, err := generator.GetSet(ctx, &generatorv1.GetSetRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if s.json() {
		return got.GetSet(), s.object(got.GetSet())
	}
	return got.GetSet(), nil
}

func sourceOf(set *generatorv1.Set) string {
	if set.GetSource() == generatorv1.Source_SOURCE_WORDS {
		return "words"
	}
	return "outliers"
}

// SetsExportCmd writes a set to a folder.
type SetsExportCmd struct {
	Name  string   `arg:"" name:"set" field:"name" help:"The set."`
	Out   place    `required:"" placeholder:"DEST" help:"Folder to write to, made where it is missing, or s3://BUCKET/PREFIX."`
	Class []string `sep:"none" field:"classes" placeholder:"CLASS" help:"Only this class; repeatable (default: all)."`

	ExportFlags `embed:""`
}

// Help teaches the command.
func (SetsExportCmd) Help() string {
	return `Writes DIR/CLASS/INDEX.png, a folder that every ImageFolder loader reads, and DIR/manifest.jsonl with all that
is needed to render each picture again, one JSON object per line. Checksums are verified, and the manifest comes last:
what has one is complete. An export that was cut off goes on when it is called again.

    dreamood sets export outliers --out out/outliers
    dreamood sets export outliers --out out/shards --format webdataset --shard-size 500
    dreamood sets export outliers --out s3://bucket/outliers --format webdataset

A tar shard holds INDEX.cls, INDEX.json and INDEX.png of every picture, under CLASS/. Buckets are found as the tools of
AWS do: AWS_ENDPOINT_URL_S3 (any server that speaks S3), AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, the shared
credentials file, or the role of the machine.`
}

// Run writes the set.
func (c *SetsExportCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Sets, c.Name)
	if err != nil {
		return err
	}
	return s.exportSet(ctx, name, c.Class, string(c.Out), c.ExportFlags)
}
