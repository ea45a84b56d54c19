package main

import (
	"context"
	"path/filepath"

	"github.com/dreamood/dreamood/internal/app"
	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// RenderCmd renders pictures at once: outliers of a space on the server, or given embeddings in this process.
type RenderCmd struct {
	Class  string `required:"" field:"class" placeholder:"CLASS" help:"Class of the space; by hand the word that embeddings replace."`
	Count  int32  `field:"count" placeholder:"N" help:"How many, 1 to 1000 on a server (larger wishes are for imagine); by hand the default is all embeddings."`
	Offset int32  `field:"offset" placeholder:"N" help:"Index of the first one: index i is the same picture in every request (default 0)."`
	Out    string `required:"" type:"path" placeholder:"DIR" help:"Folder to write to: CLASS/INDEX.png and manifest.jsonl."`
	Force  bool   `help:"Replace an export that the folder holds."`

	Space       string `group:"server" field:"space" placeholder:"NAME" help:"Space of the server to sample from."`
	InitDataset string `group:"server" field:"init.dataset" placeholder:"PATH" help:"Begin with the ID pictures of this dataset of the server, one after another."`

	Init string `group:"rendering" field:"init.picture" type:"path" placeholder:"PICTURE" help:"Begin with this picture in place of noise alone; see --strength."`

	HandFlags      `embed:""`
	RenderingFlags `embed:""`
	SamplingFlags  `embed:""`
	PreviewFlags   `embed:""`
}

// HandFlags are for rendering in this process.
type HandFlags struct {
	Word        string `group:"by hand" placeholder:"WORD" help:"The word, where it is another than the class; it may have several tokens."`
	Embeddings  string `group:"by hand" type:"path" placeholder:"FILE" help:"Embeddings in place of the word's own: .npy of float32, [n, D], [n, tokens, D] for a word of several, or [classes, n, D] with --label (default: the plain word)."`
	Latents     string `group:"by hand" type:"path" placeholder:"FILE" help:"Initial noise in place of random numbers: .npy of float32, [n, C, h, w], standard normal."`
	Label       int    `group:"by hand" placeholder:"N" help:"Number of the class: its row in [classes, n, D], and a key of the noise (default 0)."`
	Seed        uint64 `group:"by hand" placeholder:"N" help:"The same as --render-seed."`
	Batch       int    `group:"by hand" placeholder:"N" help:"Pictures that are rendered together (default: by the model's size)."`
	DumpText    bool   `group:"by hand" help:"Write the text encoder's output: DIR/text.npy [n, tokens, D], and with guidance DIR/negative.npy."`
	DumpLatents bool   `group:"by hand" help:"Write the latents before the first and after every step: DIR/latents.npy [n, steps + 1, C, h, w]."`
	Provider    string `group:"by hand" default:"cpu" enum:"cpu,openvino,cuda" env:"DREAMOOD_PROVIDER" help:"What ONNX Runtime computes on: cpu, openvino or cuda (default cpu)."`
	Threads     int    `group:"by hand" env:"DREAMOOD_THREADS" placeholder:"N" help:"Threads of the native engine (default: one per core)."`
}

// Help teaches the command.
func (RenderCmd) Help() string {
	return `With --space: samples, renders and writes pictures as they are made on the server; nothing is kept there.

    dreamood render --space cifar10 --class dog --count 16 --out out/dogs
    dreamood render --space cifar10 --class dog --count 16 --out out/dog-words --source words
    dreamood render --space cifar10 --class dog --count 16 --out out/dogs --preview out/watch --preview-every 2
    dreamood render --space cifar10 --class dog --count 4 --out out/near --init dog.png --strength 0.6

By hand, without a server: --model names the folder of a model, and embeddings and noise may come from NumPy files, so
that anybody can check every number. Pictures begin with noise keyed by (seed, label, index) where none is given.

    dreamood render --model models/reference --class bird --count 4 --out out/birds
    dreamood render --model models/reference --class bird --embeddings e.npy --latents z.npy --scheduler ddim --steps 30 \
        --guidance 7.5 --out out/birds --dump-text --dump-latents
    dreamood render --model models/reference --class bird --count 8 --template "a photo of a {class}" \
        --template "a drawing of a {class}" --negative "a dog" --seed 7 --out out/drawn

Then: dreamood replay DIR --all, which renders every line of the manifest again.`
}

// Validate tells the two uses apart.
func (c *RenderCmd) Validate() error {
	h := c.HandFlags
	switch {
	case c.Space == "" && c.Model == "":
		return usage("name a space of the server with --space, or the folder of a model with --model to render without a server")
	case c.Space != "" && (h.Word != "" || h.Embeddings != "" || h.Latents != "" || h.Label != 0 || h.Batch != 0 || h.DumpText || h.DumpLatents):
		return usage("--word, --embeddings, --latents, --label, --batch and --dump-… are for rendering by hand; leave --space away, and name the model's folder with --model")
	case c.Space != "" && c.Count == 0:
		return usage("--count is missing")
	case c.Space == "" && c.InitDataset != "":
		return usage("--init-dataset names a dataset of the server; by hand use --init")
	case c.Space == "" && (c.PreviewFlags.Preview != "" || c.Source != "outliers"):
		return usage("--preview and --source need --space; by hand the plain word is rendered where --embeddings is missing")
	case h.Seed != 0 && c.RenderSeed != 0 && h.Seed != c.RenderSeed:
		return usage("--seed and --render-seed say two things; give one")
	}
	if h.Seed != 0 {
		c.RenderSeed = h.Seed
	}
	return nil
}

// Run renders the pictures.
func (c *RenderCmd) Run(ctx context.Context, s *Session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.Space == "" {
		return c.byHand(ctx, s)
	}
	space, err := resource(ood.Spaces, c.Space)
	if err != nil {
		return err
	}
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	q := &generatorv1.RenderOutliersRequest{
		Space: space, Class: c.Class, Count: c.Count, Offset: c.Offset, Init: initDataset(c.InitDataset),
		Sampling: c.SamplingFlags.message(), Rendering: c.RenderingFlags.message(), Source: c.RenderingFlags.source(),
	}
	if c.Init != "" {
		file, err := readPicture(c.Init)
		if err != nil {
			return err
		}
		q.Init = &generatorv1.Init{From: &generatorv1.Init_Picture{Picture: file}}
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

// initDataset is a dataset to begin with; nil for none.
func initDataset(path string) *generatorv1.Init {
	if path == "" {
		return nil
	}
	return &generatorv1.Init{From: &generatorv1.Init_Dataset{Dataset: path}}
}

// byHand renders in this process.
func (c *RenderCmd) byHand(ctx context.Context, s *Session) error {
	settings := c.RenderingFlags.message()
	settings.Model = ""
	job := app.Rendering{
		Model: c.Model, Class: c.Class, Word: c.Word, Label: c.Label, Embeddings: c.Embeddings, Latents: c.Latents, Init: c.Init,
		Settings: settings, Count: int(c.Count), Offset: int(c.Offset), Batch: c.Batch, Provider: c.Provider, Threads: c.Threads, Version: version,
	}
	if c.DumpText {
		job.DumpText = filepath.Join(c.Out, "text.npy")
		if c.Guidance != 1 {
			job.DumpNegative = filepath.Join(c.Out, "negative.npy")
		}
	}
	if c.DumpLatents {
		job.DumpLatents = filepath.Join(c.Out, "latents.npy")
	}
	plan, err := job.Open(ctx)
	if err != nil {
		return err
	}
	defer plan.Close()
	return s.exportEach(ctx, "render "+c.Class, c.Out, ExportFlags{Format: formFolder, ShardSize: 1, Force: c.Force}, plan.Count(), func(yield func(*generatorv1.Picture) error) error {
		return plan.Render(ctx, yield)
	})
}
