package diffusion

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// TestHostileModels: every error names the file.
func TestHostileModels(t *testing.T) {
	outside := func(g *onnxpb.GraphProto) {
		w := g.Initializer[0]
		w.RawData, w.DataLocation = nil, onnxpb.TensorProto_EXTERNAL
		w.ExternalData = []*onnxpb.StringStringEntryProto{{Key: "location", Value: "../../../../etc/passwd"}}
	}
	write := func(content string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	edit := func(change func(*onnxpb.GraphProto)) func(*testing.T, string) {
		return func(t *testing.T, path string) { editModel(t, path, change) }
	}
	link := func(to string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Symlink(to, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := func(change func(*onnxpb.TensorProto)) func(*testing.T, string) {
		return edit(func(g *onnxpb.GraphProto) { change(g.Initializer[0]) })
	}
	remove := func(t *testing.T, path string) { os.Remove(path) }
	for name, c := range map[string]struct {
		file   string
		change func(*testing.T, string)
		want   string
	}{
		"no U-Net":          {"unet/model.onnx", remove, "no such file"},
		"no vocabulary":     {"tokenizer/vocab.json", remove, "no such file"},
		"not JSON":          {"unet/config.json", write("{"), "unexpected EOF"},
		"huge JSON":         {"unet/config.json", write(strings.Repeat(" ", maxConfigFile+1)), "at most"},
		"another pipeline":  {"model_index.json", write(`{"_class_name": "StableDiffusionXLPipeline"}`), `"StableDiffusionXLPipeline" is not supported`},
		"not a model":       {"vae_decoder/model.onnx", write("\x00\x01\x02"), "parse ONNX model"},
		"cut model":         {"unet/model.onnx", cut, "parse ONNX model"},
		"no scaling":        {"vae_decoder/config.json", write(`{"scaling_factor": 0}`), "scaling_factor 0"},
		"other channels":    {"vae_decoder/config.json", write(`{"latent_channels": 16}`), "16 latent channels, the U-Net has 4"},
		"other vocabulary":  {"text_encoder/config.json", write(`{"vocab_size": 7, "hidden_size": 32}`), "[7, 32] table"},
		"absurd vocabulary": {"text_encoder/config.json", write(`{"vocab_size": 9000000000, "hidden_size": 32}`), "vocab_size 9000000000"},
		"few positions":     {"text_encoder/config.json", write(`{"vocab_size": 1022, "hidden_size": 32, "max_position_embeddings": 8}`), "8 positions"},
		"bad schedule":      {"scheduler/scheduler_config.json", write(`{"num_train_timesteps": -1}`), "num_train_timesteps -1"},
		"outside text":      {"text_encoder/model.onnx", edit(outside), "leaves the model's folder"},
		"outside U-Net":     {"unet/model.onnx", edit(outside), "leaves the model's folder"},
		"outside VAE":       {"vae_decoder/model.onnx", edit(outside), "leaves the model's folder"},
		"absurd latents": {"unet/model.onnx", edit(func(g *onnxpb.GraphProto) {
			g.Input[0] = onnxpb.Value("sample", onnxpb.TensorProto_FLOAT, "b", 1<<40, 1<<40, 8)
		}), "latents ["},
		"link out":         {"tokenizer/vocab.json", link("/etc/passwd"), "links to"},
		"link up":          {"unet/model.onnx", link("../../../secret"), "no such file"},
		"a link elsewhere": {"scheduler/scheduler_config.json", link(os.DevNull), "links to"},
		"NaN": {"unet/model.onnx", first(func(w *onnxpb.TensorProto) {
			w.RawData[2], w.RawData[3] = 0xc0, 0x7f
		}), "element 0 is not a number"},
		"short tensor":  {"vae_decoder/model.onnx", first(func(w *onnxpb.TensorProto) { w.RawData = w.RawData[:4] }), "4 are stored"},
		"absurd tensor": {"text_encoder/model.onnx", first(func(w *onnxpb.TensorProto) { w.Dims = []int64{1 << 40, 1 << 40} }), "more than"},
		"own operators": {"vae_decoder/model.onnx", edit(func(g *onnxpb.GraphProto) { g.Node[0].Domain = "evil" }), `domain "evil"`},
		"fixed batch": {"unet/model.onnx", edit(func(g *onnxpb.GraphProto) {
			g.Input[0] = onnxpb.Value("sample", onnxpb.TensorProto_FLOAT, 2, 4, 8, 8)
		}), "batch size is fixed to 2"},
		"inpainting":        {"unet/config.json", write(`{"in_channels": 4, "out_channels": 9}`), "4 channels in and 9 out"},
		"another tower":     {"unet/config.json", write(`{"cross_attention_dim": [768, 1024]}`), "cross_attention_dim 768"},
		"deep JSON":         {"unet/config.json", write(strings.Repeat(`{"a":`, 20_000)), "exceeded max depth"},
		"a list of classes": {"model_index.json", write(`{"_class_name": ["x", "y"]}`), "cannot unmarshal"},
		"more inputs": {"unet/model.onnx", edit(func(g *onnxpb.GraphProto) {
			g.Input = append(g.Input, onnxpb.Value("time_ids", onnxpb.TensorProto_FLOAT, "b", 6))
		}), `wants an input "time_ids"`},
		"another width": {"unet/model.onnx", edit(func(g *onnxpb.GraphProto) {
			g.Input[2] = onnxpb.Value("encoder_hidden_states", onnxpb.TensorProto_FLOAT, "b", "l", 33)
		}), "has width 33"},
	} {
		dir := copyModel(t)
		c.change(t, filepath.Join(dir, filepath.FromSlash(c.file)))
		p, err := Open(dir, Config{})
		if err == nil {
			p.Close()
			t.Errorf("%s: the model was opened", name)
			continue
		}
		part := filepath.Base(filepath.Dir(c.file))
		if part == "text_encoder" || part == "tokenizer" {
			if e, err := OpenTextEncoder(dir, onnx.Config{}); err == nil {
				e.Close()
				t.Errorf("%s: the text encoder was opened", name)
			}
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: got %v, want %q and the file", name, err, c.want)
		}
	}
}

func cut(t *testing.T, path string) {
	if err := os.Truncate(path, 100_000); err != nil {
		t.Fatal(err)
	}
}

// TestMissingFilesAtOnce: all files that are missing are reported together.
func TestMissingFilesAtOnce(t *testing.T) {
	_, err := Open(t.TempDir(), Config{})
	for _, name := range requiredFiles {
		if err == nil || !strings.Contains(err.Error(), filepath.FromSlash(name)) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}

func TestDigest(t *testing.T) {
	dir := copyModel(t)
	sum := func() string {
		d, err := digest(dir)
		s := d.whole
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := sum()
	if len(first) != 64 || sum() != first {
		t.Errorf("digest %q", first)
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if sum() != first {
		t.Error("a file that is no part of the model changes the digest")
	}
	changeJSON(t, filepath.Join(dir, "tokenizer", "tokenizer_config.json"), map[string]string{"note": "x"})
	if sum() == first {
		t.Error("a changed file does not change the digest")
	}
}
