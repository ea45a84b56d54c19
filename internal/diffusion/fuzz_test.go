package diffusion

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

func read(f *testing.F, name string) string {
	f.Helper()
	data, err := os.ReadFile(filepath.Join(tiny, filepath.FromSlash(name)))
	if err != nil {
		f.Fatal(err)
	}
	return string(data)
}

// FuzzTokenizerFiles: whatever the files hold, they are refused, or every text gives as many ids as the tokenizer says, with
// a start and an end, all of them of the vocabulary.
func FuzzTokenizerFiles(f *testing.F) {
	small := `{"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "ab</w>": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}`
	for _, s := range []struct{ vocabulary, merges, config, special, text string }{
		{small, "#version: 0.2\na b</w>\n", `{"model_max_length": 16}`, `{}`, "ab ba AB 1"},
		{small, "", `{"added_tokens_decoder": {"6": {"content": "<|endoftext|>", "normalized": false}}, "pad_token": "!"}`, ``, "a<|endoftext|>b"},
		{small, "a  b\n", `{"bos_token": {"content": "a", "normalized": true}, "model_max_length": 1e30}`, `{"eos_token": "b"}`, "\u0130 \u00a0"},
		{`{"a": -1}`, "a b c", `[]`, `null`, "\xff"},
		{`{"": 1, "</w>": 2}`, " \n", `{"model_max_length": -5}`, `{"bos_token": "", "eos_token": {"content": ""}}`, ""},
	} {
		f.Add(s.vocabulary, s.merges, s.config, s.special, s.text)
	}
	f.Fuzz(func(t *testing.T, vocabulary, merges, config, special, text string) {
		dir := t.TempDir()
		for name, content := range map[string]string{"vocab.json": vocabulary, "merges.txt": merges, "tokenizer_config.json": config, "special_tokens_map.json": special} {
			if content == "" && name != "vocab.json" && name != "merges.txt" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		tok, err := OpenTokenizer(dir, 0)
		if err != nil {
			return
		}
		ids, err := tok.Encode(text)
		if err != nil {
			if len(text) <= maxPromptBytes {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if len(ids) != tok.Length() || ids[0] != tok.bos {
			t.Errorf("%q gives %v", text, ids)
		}
		known := map[int64]bool{}
		for _, id := range tok.vocabulary {
			known[id] = true
		}
		for _, a := range tok.added {
			known[a.id] = true
		}
		for _, id := range ids {
			if !known[id] {
				t.Errorf("%q gives %v, of which %d is no token", text, ids, id)
			}
		}
	})
}

// fuzzModel is the layout of a model with graphs of a few bytes, so that a fuzzer reads thousands of models a second.
func fuzzModel(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func smallGraph(f *testing.F, g *onnxpb.GraphProto) string {
	f.Helper()
	data, err := onnxpb.Marshal(onnxpb.Model(g, 0))
	if err != nil {
		f.Fatal(err)
	}
	return string(data)
}

// FuzzConfigs: whatever the configurations of a model hold, it is refused, or described with sizes within bounds and a
// schedule that a scheduler can be made of.
func FuzzConfigs(f *testing.F) {
	value := func(name string, dims ...any) *onnxpb.ValueInfoProto {
		return onnxpb.Value(name, onnxpb.TensorProto_FLOAT, dims...)
	}
	unet := smallGraph(f, &onnxpb.GraphProto{
		Input:  []*onnxpb.ValueInfoProto{value("sample", "b", "c", "h", "w"), value("timestep"), value("encoder_hidden_states", "b", "l", "d")},
		Output: []*onnxpb.ValueInfoProto{value("out", "b", "c", "h", "w")},
	})
	vae := smallGraph(f, &onnxpb.GraphProto{Input: []*onnxpb.ValueInfoProto{value("z", "b", 4, "h", "w")}, Output: []*onnxpb.ValueInfoProto{value("x", "b", 3, "h", "w")}})
	text := smallGraph(f, &onnxpb.GraphProto{})
	f.Add(read(f, "model_index.json"), read(f, "unet/config.json"), read(f, "vae_decoder/config.json"), read(f, "text_encoder/config.json"), read(f, "scheduler/scheduler_config.json"))
	f.Add(`{"_class_name": "StableDiffusionPipeline"}`, `{"sample_size": [96, 64], "cross_attention_dim": [32]}`, `{"scaling_factor": 1e300, "block_out_channels": [1,2]}`, `{"text_config": {"hidden_size": 32, "vocab_size": 9}}`, `{"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true}`)
	f.Add(`{"_class_name": "StableDiffusionPipeline"}`, `{"sample_size": -1}`, `{}`, `{"hidden_size": 1e3}`, `{"_class_name": "PNDMScheduler", "trained_betas": [0.1, 0.2], "num_train_timesteps": 2, "rescale_betas_zero_snr": true}`)
	f.Fuzz(func(t *testing.T, index, unetConfig, vaeConfig, textConfig, scheduler string) {
		dir := fuzzModel(t, map[string]string{
			"model_index.json": index, "unet/config.json": unetConfig, "vae_decoder/config.json": vaeConfig, "text_encoder/config.json": textConfig,
			"scheduler/scheduler_config.json": scheduler, "unet/model.onnx": unet, "vae_decoder/model.onnx": vae, "text_encoder/model.onnx": text,
			"tokenizer/vocab.json": "{}", "tokenizer/merges.txt": "",
		})
		d, err := Describe(dir)
		if err != nil {
			if !strings.Contains(err.Error(), ".json") && !strings.Contains(err.Error(), "model.onnx") {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		if d.Latents[0] < 1 || d.Latents[0] > maxChannels || d.Latents[1] < 1 || d.Latents[1] > maxLatent || d.Latents[2] < 1 || d.Latents[2] > maxLatent || d.Width < 0 {
			t.Errorf("%+v", d)
		}
		config, err := ReadSchedulerConfig(filepath.Join(dir, "scheduler", "scheduler_config.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(Schedulers(), "") {
			s, err := NewScheduler(config, Schedule{Name: name, Steps: 5})
			if err != nil {
				continue
			}
			for _, step := range s.Timesteps() {
				if !(float64(step) >= 0 && float64(step) < 1e9) {
					t.Errorf("%s visits timestep %v", name, step)
				}
			}
		}
	})
}

// FuzzSurgery: a text encoder that the walker takes is refused, or changed into a graph that the walker takes as well.
func FuzzSurgery(f *testing.F) {
	table := &onnxpb.GraphProto{
		Input:       []*onnxpb.ValueInfoProto{onnxpb.Value("input_ids", onnxpb.TensorProto_INT64, "b", "l")},
		Output:      []*onnxpb.ValueInfoProto{onnxpb.Value("last_hidden_state", onnxpb.TensorProto_FLOAT, "b", "l", 2)},
		Node:        []*onnxpb.NodeProto{onnxpb.Node("Gather", []string{"table", "input_ids"}, []string{"last_hidden_state"})},
		Initializer: []*onnxpb.TensorProto{onnxpb.Float32s("table", []float32{1, 2, 3, 4, 5, 6}, 3, 2)},
	}
	f.Add([]byte(smallGraph(f, table)))
	table.Node = append([]*onnxpb.NodeProto{onnxpb.Node("Cast", []string{"half"}, []string{"table"}, onnxpb.AttrInt("to", 1))}, table.Node...)
	table.Initializer = []*onnxpb.TensorProto{{Name: "half", DataType: 10, Dims: []int64{3, 2}, Int32Data: []int32{1, 2, 3, 4, 5, 6}}}
	f.Add([]byte(smallGraph(f, table)))
	table.Node[0] = onnxpb.Node("Identity", []string{"table"}, []string{"table"})
	f.Add([]byte(smallGraph(f, table)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := onnxpb.Inspect(data); err != nil {
			return
		}
		model, err := onnxpb.Unmarshal(data)
		if err != nil {
			return
		}
		v, w, err := tokenTableShape(model.Graph)
		if err != nil || keepStates(model.Graph) != nil {
			return
		}
		found, err := overrideTokens(model, v, w, t.TempDir())
		if err != nil {
			return
		}
		if int64(len(found.rows)) != v*w {
			t.Errorf("%d numbers for a table [%d, %d]", len(found.rows), v, w)
		}
		changed, err := onnxpb.Marshal(model)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := onnx.Describe(changed); err != nil && !strings.Contains(err.Error(), "is not a tensor") {
			t.Errorf("the changed graph: %v", err)
		}
	})
}
