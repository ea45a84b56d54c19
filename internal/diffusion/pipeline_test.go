package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
	"github.com/dreamood/dreamood/internal/philox"
)

const tiny = "testdata/tiny"

// tinyVectors are the recordings of PyTorch and diffusers; see
// tools/vectors/diffusion.py.
type tinyVectors struct {
	Items []struct {
		Prompt, Token, Negative string
		Rows, Noise             recorded
	}
	Cases []struct {
		Scheduler string
		Steps     int
		Guidance  float64
		Latents   recorded
		Pictures  []byte
	}
	Dog    recorded
	States recorded
}

// readTiny returns the recordings, their items, and a source of their noise.
func readTiny(t *testing.T) (tinyVectors, []Item, func(philox.Key, int) []float32) {
	t.Helper()
	var v tinyVectors
	readVectors(t, "tiny.json", &v)
	var items []Item
	for i, r := range v.Items {
		items = append(items, Item{Prompt: r.Prompt, Token: r.Token, Embedding: r.Rows, Negative: r.Negative, Key: philox.Key{Index: uint64(i)}})
	}
	return v, items, func(key philox.Key, n int) []float32 { return v.Items[key.Index].Noise }
}

func openTiny(t *testing.T, dir string, cfg Config) *Pipeline {
	t.Helper()
	if cfg.ONNX.Threads == 0 {
		cfg.ONNX.Threads = 1
	}
	p, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// compare returns the share of pixel values that differ by more than one, and
// the largest difference.
func compare(images []Image, want []byte) (share float64, worst int) {
	var got []byte
	for _, m := range images {
		got = append(got, m.Pix...)
	}
	if len(got) != len(want) {
		return 1, 255
	}
	for i := range want {
		d := max(int(got[i])-int(want[i]), int(want[i])-int(got[i]))
		worst = max(worst, d)
		if d > 1 {
			share += 1 / float64(len(want))
		}
	}
	return share, worst
}

// TestRenderMatchesDiffusers compares pictures with those of PyTorch and
// diffusers: different overrides, one of several tokens, none, and negative
// prompts in one batch. 99.9 % of the values are asked to be within 1/255.
func TestRenderMatchesDiffusers(t *testing.T) {
	v, items, noise := readTiny(t)
	p := openTiny(t, tiny, Config{Noise: noise})
	for _, c := range v.Cases {
		images, err := p.Render(t.Context(), items, Options{Steps: c.Steps, Guidance: c.Guidance, Scheduler: map[string]string{"pndm": PLMS}[c.Scheduler]})
		if err != nil {
			t.Fatal(err)
		}
		share, worst := compare(images, c.Pictures)
		t.Logf("%s, guidance %v: %.4f %% of the values differ by more than 1, at most %d", c.Scheduler, c.Guidance, 100*share, worst)
		if share > 0.001 {
			t.Errorf("%s, guidance %v: %.2f %% of the values differ by more than 1", c.Scheduler, c.Guidance, 100*share)
		}
	}
}

// TestTextEncoder compares text embeddings with PyTorch's, where the rows of
// the table were swapped. float32 on both sides: 1e-5.
func TestTextEncoder(t *testing.T) {
	v, items, _ := readTiny(t)
	e := openTiny(t, tiny, Config{}).TextEncoder()
	var prompts []Prompt
	for _, item := range items {
		prompts = append(prompts, item.prompt())
	}
	states, err := e.Encode(t.Context(), prompts)
	if err != nil {
		t.Fatal(err)
	}
	if d := farthest(states, v.States); d > 1e-5 {
		t.Errorf("text embeddings differ by %.2g", d)
	} else {
		t.Logf("largest difference %.2g", d)
	}
	row, k, err := e.WordEmbedding("dog")
	if diff := cmp.Diff([]float32(v.Dog), row); err != nil || k != 1 || diff != "" {
		t.Errorf("embedding of dog: %v, %d tokens, %s", err, k, diff)
	}
	// A word's own embedding as its override changes nothing.
	own, err := e.Encode(t.Context(), []Prompt{{Text: "a photo of a dog", Token: "dog", Embedding: row}})
	if diff := cmp.Diff(states[:len(own)], own); err != nil || diff != "" {
		t.Errorf("its own embedding changes the prompt: %v, %s", err, diff)
	}
	if n := len(e.TokenTable()); n != e.Width()*1022 {
		t.Errorf("the table has %d numbers", n)
	}
}

// TestMaskOff: without an override the changed graph computes, bit by bit,
// what the untouched one does.
func TestMaskOff(t *testing.T) {
	e := openTiny(t, tiny, Config{}).TextEncoder()
	got, err := e.Encode(t.Context(), []Prompt{{Text: "a photo of a dog"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := onnx.NewSessionFile(filepath.Join(tiny, "text_encoder", "model.onnx"), onnx.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ids, err := e.Tokenizer().Encode("a photo of a dog")
	if err != nil {
		t.Fatal(err)
	}
	in, err := onnx.NewInt64(ids, 1, int64(len(ids)))
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Run(t.Context(), map[string]*onnx.Tensor{"input_ids": in})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, out["last_hidden_state"].Float32()) {
		t.Error("the text embeddings differ")
	}
}

func TestOverrideErrors(t *testing.T) {
	p := openTiny(t, tiny, Config{})
	long := "a " + strings.Repeat("red ", 20) + "dog"
	for want, item := range map[string]Item{
		`token "cat" does not occur in prompt "a dog"`:           {Prompt: "a dog", Token: "cat", Embedding: make([]float32, 32)},
		`which is cut after 14 of its`:                           {Prompt: long, Token: "dog", Embedding: make([]float32, 32)},
		`token "dog" is 1 token(s)`:                              {Prompt: "a dog", Token: "dog", Embedding: make([]float32, 31)},
		`token "ship" is 3 token(s)`:                             {Prompt: "a ship", Token: "ship", Embedding: make([]float32, 32)},
		`no token that it replaces`:                              {Prompt: "a dog", Embedding: make([]float32, 32)},
		`has numbers that are not finite`:                        {Prompt: "a dog", Token: "dog", Embedding: slices.Repeat([]float32{float32(math.NaN())}, 32)},
		`item 0: negative prompt: prompt of 20000 bytes`:         {Prompt: "a dog", Negative: strings.Repeat("x", 20000)},
		`prompt "a dog": token " " is empty`:                     {Prompt: "a dog", Token: " ", Embedding: make([]float32, 32)},
		`token "photo of" is 2 token(s) of the vocabulary: want`: {Prompt: "a photo of a dog", Token: "photo of"},
	} {
		_, err := p.Render(t.Context(), []Item{item}, Options{Steps: 1})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, err := p.Render(t.Context(), []Item{{Prompt: "a", Token: "b"}}, Options{Steps: -1, Guidance: -1, Scheduler: DDIM})
	for _, want := range []string{"-1 steps", "guidance -1", "item 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestBatchDoesNotMatter: a picture is the same alone, in company, and in a
// batch of another size.
func TestBatchDoesNotMatter(t *testing.T) {
	var items []Item
	for i := range 7 {
		items = append(items, Item{Prompt: fmt.Sprintf("a photo of %d dogs", i), Key: philox.Key{Seed: 3, Index: uint64(i)}})
	}
	opts := Options{Steps: 4}
	want, err := openTiny(t, tiny, Config{Batch: 7}).Render(t.Context(), items, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range []int{1, 3} {
		got, err := openTiny(t, tiny, Config{Batch: batch}).Render(t.Context(), items, opts)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("batches of %d: %v, %s", batch, err, diff)
		}
	}
	if slices.Equal(want[0].Pix, want[1].Pix) {
		t.Error("two items have the same picture")
	}
}

func TestCancelEndsRender(t *testing.T) {
	p := openTiny(t, tiny, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	calls, total := 0, 0
	_, err := p.Render(ctx, []Item{{Prompt: "a dog"}}, Options{Steps: 50, Progress: func(done, all int) {
		calls, total = done, all
		if done == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || calls != 3 || total != 50 {
		t.Errorf("got %v after %d of %d U-Net calls, want context.Canceled after 3 of 50", err, calls, total)
	}
}

// TestOpenVINO renders with fixed shapes, and so with batches filled up.
func TestOpenVINO(t *testing.T) {
	if !slices.Contains(onnx.Providers(), "openvino") {
		t.Skip("this ONNX Runtime has no OpenVINO provider")
	}
	v, items, noise := readTiny(t)
	p := openTiny(t, tiny, Config{ONNX: onnx.Config{Provider: "openvino"}, Noise: noise, Batch: 3})
	images, err := p.Render(t.Context(), items, Options{Steps: v.Cases[0].Steps, Guidance: v.Cases[0].Guidance})
	if err != nil {
		t.Fatal(err)
	}
	if share, worst := compare(images, v.Cases[0].Pictures); share > 0.001 {
		t.Errorf("%.2f %% of the values differ by more than 1, at most %d", 100*share, worst)
	}
}

// TestHalfPrecision renders with models whose inputs and outputs are float16,
// the timestep a scalar; inside they compute in float32. The latents lose
// about three digits at every step, so 95 % within 2/255 are asked.
func TestHalfPrecision(t *testing.T) {
	v, items, noise := readTiny(t)
	dir := copyModel(t)
	halve(t, filepath.Join(dir, "unet", "model.onnx"))
	halve(t, filepath.Join(dir, "vae_decoder", "model.onnx"))
	halve(t, filepath.Join(dir, "text_encoder", "model.onnx"))
	p := openTiny(t, dir, Config{Noise: noise})
	images, err := p.Render(t.Context(), items, Options{Steps: v.Cases[2].Steps, Guidance: 1})
	if err != nil {
		t.Fatal(err)
	}
	far, n := 0, 0
	for i, m := range images {
		for k, got := range m.Pix {
			want := v.Cases[2].Pictures[i*len(m.Pix)+k]
			if max(int(got)-int(want), int(want)-int(got)) > 2 {
				far++
			}
			n++
		}
	}
	if t.Logf("%d of %d values differ by more than 2", far, n); far*20 > n {
		t.Errorf("%d of %d values differ by more than 2", far, n)
	}
}

// halve makes the floating-point inputs and outputs of a model float16, and an
// int64 timestep a float16 scalar.
func halve(t *testing.T, path string) {
	t.Helper()
	editModel(t, path, func(g *onnxpb.GraphProto) {
		for _, in := range g.Input {
			kind := in.GetType().GetTensorType()
			from := kind.ElemType
			if in.Name == "input_ids" {
				continue
			}
			node := onnxpb.Node("Cast", []string{in.Name}, []string{"wide_" + in.Name}, onnxpb.AttrInt("to", int64(from)))
			for _, n := range g.Node {
				for i, input := range n.Input {
					if input == in.Name {
						n.Input[i] = "wide_" + in.Name
					}
				}
			}
			kind.ElemType = int32(onnxpb.TensorProto_FLOAT16)
			g.Node = slices.Insert(g.Node, 0, node)
			if in.Name == "timestep" {
				kind.Shape.Dim = nil
				node.Output[0] = "scalar_timestep"
				g.Initializer = append(g.Initializer, onnxpb.Int64s("one", []int64{1}, 1))
				g.Node = slices.Insert(g.Node, 1, onnxpb.Node("Reshape", []string{"scalar_timestep", "one"}, []string{"wide_timestep"}))
			}
		}
		for _, out := range g.Output {
			kind := out.GetType().GetTensorType()
			kind.ElemType = int32(onnxpb.TensorProto_FLOAT16)
			for _, n := range g.Node {
				for i, output := range n.Output {
					if output == out.Name {
						n.Output[i] = "wide_" + out.Name
					}
				}
				for i, input := range n.Input {
					if input == out.Name {
						n.Input[i] = "wide_" + out.Name
					}
				}
			}
			g.Node = append(g.Node, onnxpb.Node("Cast", []string{"wide_" + out.Name}, []string{out.Name}, onnxpb.AttrInt("to", int64(onnxpb.TensorProto_FLOAT16))))
		}
	})
}

func editModel(t *testing.T, path string, edit func(*onnxpb.GraphProto)) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnxpb.Unmarshal(data)
	if err != nil {
		t.Fatal(err)
	}
	edit(m.Graph)
	if data, err = onnxpb.Marshal(m); err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func copyModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	return dir
}
