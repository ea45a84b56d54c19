package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/dreamood/dreamood/internal/evaluation"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// pair is a flag's KEY=VALUE.
type pair struct{ key, value string }

// UnmarshalText reads KEY=VALUE; both must be there.
func (p *pair) UnmarshalText(text []byte) error {
	key, value, ok := strings.Cut(string(text), "=")
	if !ok || key == "" || value == "" {
		return fmt.Errorf("%q is not of the form KEY=VALUE", text)
	}
	p.key, p.value = key, value
	return nil
}

// byKey makes a map of pairs; the last one of a key wins.
func byKey(pairs []pair) map[string]string {
	m := make(map[string]string, len(pairs))
	for _, p := range pairs {
		m[p.key] = p.value
	}
	return m
}

// datasetsOf makes named datasets of NAME=PATH, in the order given, with absolute paths.
func datasetsOf(pairs []pair) []*trainerv1.NamedDataset {
	list := make([]*trainerv1.NamedDataset, len(pairs))
	for i, p := range pairs {
		list[i] = &trainerv1.NamedDataset{Name: p.key, Path: kong.ExpandPath(p.value)}
	}
	return list
}

// TestSets are the pictures that a detector is measured on, beside the ID test pictures.
type TestSets struct {
	OOD     []pair `name:"ood" sep:"none" field:"ood_datasets" placeholder:"NAME=PATH" help:"OOD pictures to measure on, with their name in results; never trained on. Repeatable."`
	Near    []pair `sep:"none" placeholder:"NAME=PATH" help:"The same, counted in the mean over near OOD sets, too. Repeatable."`
	Far     []pair `sep:"none" placeholder:"NAME=PATH" help:"The same, counted in the mean over far OOD sets, too. Repeatable."`
	Shifted []pair `sep:"none" field:"shifted_datasets" placeholder:"NAME=PATH" help:"Shifted ID pictures, labelled, of the same classes, to measure the accuracy on. Repeatable."`
}

// ood are the OOD sets with their groups.
func (t TestSets) ood() []*trainerv1.NamedDataset {
	list := datasetsOf(t.OOD)
	for _, group := range []struct {
		name  string
		pairs []pair
	}{{evaluation.Near, t.Near}, {evaluation.Far, t.Far}} {
		for _, set := range datasetsOf(group.pairs) {
			set.Group = group.name
			list = append(list, set)
		}
	}
	return list
}

// all are all sets.
func (t TestSets) all() []pair { return slices.Concat(t.OOD, t.Near, t.Far, t.Shifted) }

// SamplingFlags say how embeddings are sampled.
type SamplingFlags struct {
	MethodFlags `embed:""`
	SampleSeed  uint64 `group:"sampling" field:"sampling.seed" placeholder:"N" help:"Seed of the sampling (default 1)."`
}

// MethodFlags are a method of sampling and its constants.
type MethodFlags struct {
	Method      string  `group:"sampling" default:"" field:"sampling.method" placeholder:"NAME" help:"knn for outliers at the border of the class (Dream-OOD, the default), npos, gaussian (VOS), boundary (BOOD) or pca-shell (GCOS) for outliers found in other ways, inlier for samples inside the class (Dream-ID)."`
	Mode        string  `group:"sampling" field:"sampling.mode" placeholder:"NAME" help:"paper for what the paper describes (the default), reference for what its published code does, index for index (knn, inlier)."`
	K           int32   `group:"sampling" field:"sampling.k" placeholder:"N" help:"K of the K-th-neighbour distance (default 300, or 60 % of a smaller bank)."`
	Select      int32   `group:"sampling" field:"sampling.select" placeholder:"N" help:"Boundary points per class (default 50)."`
	Pick        int32   `group:"sampling" field:"sampling.pick" placeholder:"N" help:"Boundary points used per round, at most --select (default 50)."`
	Noises      int32   `group:"sampling" field:"sampling.noises" placeholder:"N" help:"Noise vectors per round, at most 100000 (default 1500)."`
	Sigma       float64 `group:"sampling" field:"sampling.sigma" placeholder:"X" help:"Standard deviation of the noise per dimension, above 0 to 1 (default: the published cosine of 0.458 to the source point)."`
	Keep        int32   `group:"sampling" field:"sampling.keep" placeholder:"N" help:"Candidates kept per boundary point and round (default 2)."`
	Alpha       float64 `group:"sampling" field:"sampling.alpha" placeholder:"X" help:"Length of a step towards the other classes (boundary; default 0.01)."`
	AscentSteps int32   `group:"sampling" field:"sampling.steps" placeholder:"N" help:"Steps at most until the prediction flips (boundary; default 40)."`
	Beyond      *int32  `group:"sampling" field:"sampling.beyond" placeholder:"N" help:"Steps beyond the flip, 0 or more (boundary; default 1)."`
	Lower       float64 `group:"sampling" field:"sampling.lower" placeholder:"Q" help:"Quantile of the ID distances where the shell begins (pca-shell; default 0.95)."`
	Upper       float64 `group:"sampling" field:"sampling.upper" placeholder:"Q" help:"Quantile of the ID distances where the shell ends (pca-shell; default 0.99)."`
}

func (f SamplingFlags) message() *samplerv1.Sampling { return f.MethodFlags.message(f.SampleSeed) }

func (f MethodFlags) message(seed uint64) *samplerv1.Sampling {
	return &samplerv1.Sampling{
		Method: f.Method, Mode: f.Mode, K: f.K, Select: f.Select, Pick: f.Pick, Noises: f.Noises, Sigma: f.Sigma, Keep: f.Keep, Seed: seed,
		Alpha: f.Alpha, Steps: f.AscentSteps, Beyond: f.Beyond, Lower: f.Lower, Upper: f.Upper,
	}
}

// RenderingFlags say how embeddings become pictures.
type RenderingFlags struct {
	Model      string   `group:"rendering" field:"rendering.model" placeholder:"NAME" help:"Diffusion model (default: the one of the space)."`
	Steps      int32    `group:"rendering" field:"rendering.steps" placeholder:"N" help:"Denoising steps, 1 to 1000 (default 20)."`
	Guidance   float64  `group:"rendering" field:"rendering.guidance" placeholder:"X" help:"Guidance scale, 1 for none to 30 (default 3)."`
	Scheduler  string   `group:"rendering" field:"rendering.scheduler" placeholder:"NAME" help:"ddim, pndm, plms, euler, euler-karras, euler-ancestral, dpmpp (DPM-Solver++ 2M), dpmpp-karras or lcm (default: the model's own)."`
	Prompt     string   `group:"rendering" field:"rendering.prompt" placeholder:"TEXT" help:"Prompt, with {} or {class} where the class's word stands (default: A high-quality image of the {})."`
	Template   []string `group:"rendering" sep:"none" field:"rendering.templates" placeholder:"TEXT" help:"Prompt of which there are several: every picture draws one of them by the seed. Repeatable; in place of --prompt."`
	Negative   string   `group:"rendering" field:"rendering.negative_prompt" placeholder:"TEXT" help:"What guidance leads away from (default: nothing)."`
	Strength   float64  `group:"rendering" field:"rendering.strength" placeholder:"X" help:"How much of a picture to begin with is drawn anew, above 0 to 1 (default 0.8)."`
	Eta        float64  `group:"rendering" field:"rendering.eta" placeholder:"X" help:"Noise that ddim adds at every step, 0 to 1 (default 0: none)."`
	RenderSeed uint64   `group:"rendering" field:"rendering.seed" placeholder:"N" help:"Seed of all noise (default 1)."`
	Source     string   `group:"rendering" default:"outliers" enum:"outliers,words" field:"source" help:"outliers: sampled embeddings in place of the class's word. words: the class as the model knows it, to compare with."`
}

func (f RenderingFlags) message() *generatorv1.Rendering {
	return &generatorv1.Rendering{
		Model: f.Model, Steps: f.Steps, Guidance: f.Guidance, Scheduler: f.Scheduler, Prompt: f.Prompt, Seed: f.RenderSeed,
		Templates: f.Template, NegativePrompt: f.Negative, Eta: f.Eta, Strength: f.Strength,
	}
}

func (f RenderingFlags) source() generatorv1.Source {
	if f.Source == "words" {
		return generatorv1.Source_SOURCE_WORDS
	}
	return generatorv1.Source_SOURCE_OUTLIERS
}
