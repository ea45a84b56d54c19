package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dreamood/dreamood/internal/app"
	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// DemoCmd runs the whole path on the pictures that ship with the project.
type DemoCmd struct {
	Out      string `default:"out/demo" type:"path" placeholder:"DIR" help:"Folder to write to (default out/demo)."`
	Sample   string `default:"sample" type:"path" placeholder:"DIR" help:"Folder of the sample pictures (default sample)."`
	Models   string `default:"models" type:"path" placeholder:"DIR" help:"Folder of the diffusion models (default models)."`
	PerClass int32  `default:"24" placeholder:"N" help:"Outliers to imagine per class, 2 to 1000 (default 24)."`
	Seed     uint64 `default:"1" placeholder:"N" help:"Seed of everything random (default 1)."`
	Fresh    bool   `help:"Forget what an earlier demo left in the folder, finished or not."`
}

// Help teaches the command.
func (DemoCmd) Help() string {
	return `Runs embedder, sampler, generator and trainer in this process, with their queue, and acts as their client: learns a space
from the sample, imagines outliers at the border of every class, trains one detector without and one with them, and
writes what came out. Some minutes on two cores. Killed at any point, it goes on where it was when it is started again.

    dreamood demo
    dreamood demo --per-class 64 --out out/larger

Look at report.html first.`
}

// Sizes of the demo. What a newcomer waits for is a few minutes; the README's second path trains on all of CIFAR-10.
const (
	demoEpochs       = 8
	demoSpaceEpochs  = 16 // fewer, and most outliers lie nearer to another class than to their own
	demoWidth        = 16
	demoSteps        = 20
	demoGuidance     = 3
	demoWords        = 6 // pictures of the plain word per class, to compare with
	demoOutlierBatch = 32
	demoBeta         = 1 // the paper's 2.5 costs seven points of ID accuracy in so short a training
)

// demoSets are the OOD sets of the sample. apart says why one is left out of the mean over sets.
var demoSets = []struct{ name, file, apart string }{
	{"textures", "ood_textures.zip", ""},
	{"cifar100", "ood_cifar100.zip", "the diffusion model was trained on such pictures"},
}

// demo is a run of the command: what it asks for, and what came of it.
type demo struct {
	*DemoCmd
	s     *Session
	tag   string // of everything made, so that other settings or pictures make other resources
	times []timing

	space         *embedderv1.Space
	plain, better *trainerv1.Detector
}

type timing struct {
	what string
	took time.Duration
}

// Run shows the whole path.
func (c *DemoCmd) Run(ctx context.Context, s *Session) error {
	if c.PerClass < 2 || c.PerClass > 1000 {
		return usage("--per-class %d: want 2 to 1000", c.PerClass)
	}
	state := filepath.Join(c.Out, ".state")
	if c.Fresh {
		if err := os.RemoveAll(state); err != nil {
			return fmt.Errorf("forget the earlier demo: %w", err)
		}
	}
	d := &demo{DemoCmd: c, s: s}
	var err error
	if d.tag, err = d.fingerprint(); err != nil {
		return err
	}
	log, closeLog, err := fileLogger(filepath.Join(c.Out, "demo.log"), s.LogLevel)
	if err != nil {
		return err
	}
	defer closeLog()
	err = s.inMesh(ctx, app.Config{Data: state, Models: c.Models, Datasets: []string{c.Sample}}, log,
		func(ctx context.Context, _ *Session) error { return d.story(ctx) })
	if err != nil && ctx.Err() != nil {
		return &exitError{exitDetached, errors.New("interrupted; the same command goes on where it was")}
	}
	return err
}

// story is the path: space, outliers, detectors, page.
func (d *demo) story(ctx context.Context) error {
	began := time.Now()
	d.s.say("dreamood imagines outliers: from %s to %s", d.Sample, d.Out)
	for i, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"learn a space in which pictures lie near their class's word", d.learn},
		{"imagine outliers at the border of every class", d.imagine},
		{"imagine the plain words, to compare with", d.words},
		{"train a detector without outliers", d.trainPlain},
		{"train a detector with outliers", d.trainBetter},
		{"write the pictures and the report", d.write},
	} {
		d.s.say("%d/6 %s", i+1, step.what)
		at := time.Now()
		if err := step.do(ctx); err != nil {
			return err
		}
		d.times = append(d.times, timing{step.what, time.Since(at)})
	}
	d.summary(time.Since(began))
	return nil
}

// fingerprint is a short digest of the settings and of every file of the sample and the model.
func (d *demo) fingerprint() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, "demo 1", d.PerClass, d.Seed, demoEpochs, demoSpaceEpochs, demoWidth, demoSteps, demoGuidance, demoWords, demoOutlierBatch, demoBeta)
	files := []string{d.train(), d.test()}
	for _, set := range demoSets {
		files = append(files, filepath.Join(d.Sample, set.file))
	}
	for _, part := range []string{"text_encoder/model.onnx", "unet/model.onnx"} {
		files = append(files, filepath.Join(d.Models, "reference", filepath.FromSlash(part)))
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("the demo needs the sample and the model of the project: %w; run it in the project's folder, or name them with --sample and --models", err)
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("read %s: %w", name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:8], nil
}

func (d *demo) train() string { return filepath.Join(d.Sample, "cifar10_train.tar.gz") }
func (d *demo) test() string  { return filepath.Join(d.Sample, "cifar10_test.zip") }

// make submits a request under a key of its own, so that a second start finds the run of the first, and follows it.
func (d *demo) make(ctx context.Context, what string, ask func(id, requestID string) (*runv1.Run, error)) (string, error) {
	id := "demo-" + what + "-" + d.tag
	run, err := ask(id, id)
	if err != nil {
		return "", err
	}
	if run, err = d.s.track(ctx, &follower{known: true}, run.GetName(), 0); err != nil {
		return "", err
	}
	return run.GetResult(), d.s.verdict(run)
}

func (d *demo) learn(ctx context.Context) error {
	client, err := client(d.s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return err
	}
	name, err := d.make(ctx, "space", func(id, requestID string) (*runv1.Run, error) {
		r, err := client.TrainSpace(ctx, &embedderv1.TrainSpaceRequest{
			SpaceId: id, Dataset: d.train(), RequestId: requestID,
			Training: &embedderv1.SpaceTraining{Epochs: demoSpaceEpochs, Width: demoWidth, Seed: d.Seed, BatchSize: 64},
		})
		return r.GetRun(), err
	})
	if err != nil {
		return err
	}
	r, err := client.GetSpace(ctx, &embedderv1.GetSpaceRequest{Name: name})
	d.space = r.GetSpace()
	return err
}

func (d *demo) imagine(ctx context.Context) error {
	return d.render(ctx, "outliers", d.PerClass, generatorv1.Source_SOURCE_OUTLIERS)
}

func (d *demo) words(ctx context.Context) error {
	return d.render(ctx, "words", demoWords, generatorv1.Source_SOURCE_WORDS)
}

func (d *demo) render(ctx context.Context, what string, perClass int32, source generatorv1.Source) error {
	client, err := client(d.s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	_, err = d.make(ctx, what, func(id, requestID string) (*runv1.Run, error) {
		r, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{
			SetId: id, Space: d.space.Name, PerClass: perClass, Source: source, RequestId: requestID,
			Rendering: &generatorv1.Rendering{Steps: demoSteps, Guidance: demoGuidance, Seed: d.Seed},
		})
		return r.GetRun(), err
	})
	return err
}

func (d *demo) set(what string) string { return ood.Sets.Name("demo-" + what + "-" + d.tag) }

func (d *demo) trainPlain(ctx context.Context) (err error) {
	d.plain, err = d.detect(ctx, "plain", "")
	return err
}

func (d *demo) trainBetter(ctx context.Context) (err error) {
	d.better, err = d.detect(ctx, "dreamood", d.set("outliers"))
	return err
}

func (d *demo) detect(ctx context.Context, what, set string) (*trainerv1.Detector, error) {
	client, err := client(d.s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return nil, err
	}
	name, err := d.make(ctx, what, func(id, requestID string) (*runv1.Run, error) {
		q := &trainerv1.TrainDetectorRequest{
			DetectorId: id, Dataset: d.train(), TestDataset: d.test(), Set: set, RequestId: requestID,
			Training: &trainerv1.DetectorTraining{
				Epochs: demoEpochs, Width: demoWidth, Seed: d.Seed, BatchSize: 64, OutlierBatchSize: demoOutlierBatch, Beta: demoBeta,
			},
		}
		for _, o := range demoSets {
			q.OodDatasets = append(q.OodDatasets, &trainerv1.NamedDataset{Name: o.name, Path: filepath.Join(d.Sample, o.file)})
		}
		r, err := client.TrainDetector(ctx, q)
		return r.GetRun(), err
	})
	if err != nil {
		return nil, err
	}
	r, err := client.GetDetector(ctx, &trainerv1.GetDetectorRequest{Name: name})
	return r.GetDetector(), err
}

// summary says on the terminal what the page shows.
func (d *demo) summary(took time.Duration) {
	d.s.say("")
	d.s.say("%-22s %14s %14s", "", "plain", "with outliers")
	d.s.say("%-22s %13.1f%% %13.1f%%", "ID accuracy", 100*d.plain.Evaluation.IdAccuracy, 100*d.better.Evaluation.IdAccuracy)
	for i, p := range d.plain.Evaluation.Ood {
		b := d.better.Evaluation.Ood[i]
		d.s.say("%-22s %13.1f%% %13.1f%%", p.Name+" FPR95 (lower)", 100*p.Fpr95, 100*b.Fpr95)
		d.s.say("%-22s %13.1f%% %13.1f%%", p.Name+" AUROC (higher)", 100*p.Auroc, 100*b.Auroc)
	}
	d.s.say("")
	d.s.say("done in %s; open %s", took.Round(time.Second), filepath.Join(d.Out, "report.html"))
}

// writeJSON writes a value as indented JSON.
func writeJSON(file string, value any) error {
	return replaceFile(file, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(value)
	})
}
