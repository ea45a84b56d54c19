package diffusion

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
	"github.com/dreamood/dreamood/internal/philox"
)

// oddVectors are what diffusers' own pipelines made of testdata/odd; see
// tools/parity/generator.py.
type oddVectors struct {
	Seed          uint64
	Label         uint32
	Word, Prompt  string
	Rows          recorded // [n, tokens, H]
	Init          []uint8
	Height, Width int
	Cases         []struct {
		Scheduler, Negative     string
		Steps                   int
		Guidance, Eta, Strength float64
		Latents                 recorded // the last ones
		Pictures                []byte
	}
}

// TestOddModelMatchesDiffusers renders a random model of Stable Diffusion 2's
// shape and odd sizes (pictures of 40×24 pixels, three resolutions, v
// prediction) from a given picture, as StableDiffusionImg2ImgPipeline does.
// 99.9 % of the values are asked to be within 1/255, and the last latents within
// 1e-3 (relative above 1).
func TestOddModelMatchesDiffusers(t *testing.T) {
	var v oddVectors
	readVectors(t, "odd.json", &v)
	p := openTiny(t, "testdata/odd", Config{})
	if h, w, err := p.PictureSize(t.Context()); err != nil || h != v.Height || w != v.Width {
		t.Fatalf("pictures of %d×%d, %v", w, h, err)
	}
	tokens, err := p.text.tokenizer.Tokens(v.Word)
	if err != nil || len(v.Cases) == 0 {
		t.Fatalf("%d cases, tokens of %q: %v", len(v.Cases), v.Word, err)
	}
	for _, c := range v.Cases {
		var items []Item
		for i := range slices.Collect(slices.Chunk(v.Rows, len(tokens)*p.Width())) {
			items = append(items, Item{
				Prompt: v.Prompt, Token: v.Word, Embedding: v.Rows[i*len(tokens)*p.Width():][:len(tokens)*p.Width()], Negative: c.Negative,
				Key: philox.Key{Seed: v.Seed, Class: v.Label, Index: uint64(i)},
			})
			if c.Strength > 0 {
				items[i].Init = v.Init
			}
		}
		opts := Options{Steps: c.Steps, Guidance: c.Guidance, Scheduler: c.Scheduler, Eta: c.Eta, Strength: c.Strength}
		var last []float32
		opts.Latents = func(_, _ int, latents []float32) { last = slices.Clone(latents) }
		images, err := p.Render(t.Context(), items, opts)
		if err != nil {
			t.Fatal(err)
		}
		share, worst := compare(images, c.Pictures)
		name := c.Scheduler
		if c.Strength > 0 {
			name += " from a picture"
		}
		t.Logf("%s, %d steps, guidance %v, strength %v: %.4f %% of the values differ by more than 1, at most %d; latents by %.1g", name, c.Steps, c.Guidance, c.Strength, 100*share, worst, farthest(last, c.Latents))
		if d := farthest(last, c.Latents); d > 1e-3 {
			t.Errorf("%s, strength %v: the last latents differ by %.2g", name, c.Strength, d)
		}
		if share > 0.001 {
			t.Errorf("%s, %d steps, guidance %v, strength %v: %.2f %% of the values differ by more than 1", name, c.Steps, c.Guidance, c.Strength, 100*share)
		}
	}
}

func TestGivenPictureErrors(t *testing.T) {
	p := openTiny(t, "testdata/odd", Config{})
	picture := make([]uint8, 3*24*40)
	for want, c := range map[string]struct {
		item Item
		opts Options
	}{
		"a picture is given, but no strength": {Item{Prompt: "a", Init: picture}, Options{Steps: 4}},
		"strength 0.5 needs a picture":        {Item{Prompt: "a"}, Options{Steps: 4, Strength: 0.5}},
		"strength 1.5: want":                  {Item{Prompt: "a", Init: picture}, Options{Steps: 4, Strength: 1.5}},
		"strength 0.1 of 4 steps leaves none": {Item{Prompt: "a", Init: picture}, Options{Steps: 4, Strength: 0.1}},
		"choose plms":                         {Item{Prompt: "a", Init: picture}, Options{Steps: 8, Strength: 0.5, Scheduler: PNDM}},
		"want 2880 of RGB for 40×24 pixels":   {Item{Prompt: "a", Init: picture[1:]}, Options{Steps: 4, Strength: 0.5}},
	} {
		if _, err := p.Render(t.Context(), []Item{c.item}, c.opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if openTiny(t, tiny, Config{}).HasEncoder() {
		t.Error("the tiny model has no encoder")
	}
	_, err := openTiny(t, tiny, Config{}).Render(t.Context(), []Item{{Prompt: "a", Init: make([]uint8, 3*16*16)}}, Options{Steps: 4, Strength: 0.5})
	if err == nil || !strings.Contains(err.Error(), "has no vae_encoder/model.onnx") {
		t.Errorf("without an encoder: %v", err)
	}
}

// TestEncoderThatDraws: random numbers that an encoder's graph would draw
// itself come from the item's key instead; other random graphs are refused.
func TestEncoderThatDraws(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS("../../models/reference")); err != nil {
		t.Fatal(err)
	}
	item := Item{Prompt: "a photo of a cat", Init: make([]uint8, 3*32*32), Key: philox.Key{Seed: 4, Index: 2}}
	opts := Options{Steps: 2, Strength: 1}
	start := func() []float32 {
		p := openTiny(t, dir, Config{})
		var got []float32
		opts.Latents = func(_, step int, latents []float32) {
			if step == 0 {
				got = slices.Clone(latents)
			}
		}
		if _, err := p.Render(t.Context(), []Item{item}, opts); err != nil {
			t.Fatal(err)
		}
		return got
	}
	plain := start()
	path := filepath.Join(dir, "vae_encoder", "model.onnx")
	draw := func(op string) func(*onnxpb.GraphProto) {
		return func(g *onnxpb.GraphProto) {
			out := g.Output[0].Name
			for _, n := range g.Node {
				for i := range n.Output {
					if n.Output[i] == out {
						n.Output[i] = "mean"
					}
				}
			}
			g.Node = append(g.Node, onnxpb.Node(op, []string{"mean"}, []string{"drawn"}), onnxpb.Node("Add", []string{"mean", "drawn"}, []string{out}))
		}
	}
	editModel(t, path, draw("RandomNormalLike"))
	drawn := start()
	if diff := cmp.Diff(drawn, start()); diff != "" {
		t.Errorf("two renderings begin differently: %s", diff)
	}
	key := item.Key
	key.Purpose = EncodePurpose
	noise := drawNoise(key, len(plain))
	// Both are mixed with the same noise: signal·(latents + drawn) + noise·ε.
	plan, err := NewScheduler(SchedulerConfig{ClassName: "DDIMScheduler", BetaSchedule: "scaled_linear", BetaStart: 0.00085, BetaEnd: 0.012, StepsOffset: 1}, Schedule{Steps: 2})
	if err != nil {
		t.Fatal(err)
	}
	signal := plan.(*ddim).levels[0].signal
	for i := range plain {
		if d := float64(drawn[i]-plain[i]) - signal*float64(noise[i]); d > 1e-5 || d < -1e-5 {
			t.Fatalf("latent %d: %v more than without noise, want %v", i, drawn[i]-plain[i], signal*float64(noise[i]))
		}
	}
	editModel(t, path, draw("RandomUniformLike"))
	p := openTiny(t, dir, Config{})
	if _, err := p.Render(t.Context(), []Item{item}, opts); err == nil || !strings.Contains(err.Error(), "draws random numbers") {
		t.Errorf("a graph that draws twice: %v", err)
	}
}
