package diffusion

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// two pictures, one with an override, in three steps.
func renderTwo(t *testing.T, dir string) []Image {
	t.Helper()
	_, items, noise := readTiny(t)
	images, err := openTiny(t, dir, Config{Noise: noise}).Render(t.Context(), items[:2], Options{Steps: 3, Guidance: 5, Scheduler: DDIM})
	if err != nil {
		t.Fatal(err)
	}
	return images
}

func differ(a, b []Image) (share float64, worst int) {
	var want []byte
	for _, m := range b {
		want = append(want, m.Pix...)
	}
	return compare(a, want)
}

// TestLayouts renders with models that are written in other ways than the tiny
// one, and computes the same: the pictures are equal.
func TestLayouts(t *testing.T) {
	want := renderTwo(t, tiny)
	unet := filepath.Join("unet", "model.onnx")
	scaling := func(t *testing.T, dir string) { // the tiny model's is not the default
		if err := os.WriteFile(filepath.Join(dir, "vae_decoder", "config.json"), []byte(`{"scaling_factor": 0.5}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	index := func(content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "model_index.json"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, change := range map[string]func(*testing.T, string){
		"Optimum": index(`{"_class_name": "ORTStableDiffusionPipeline", "_diffusers_version": "0.33.1", "_name_or_path": "x",
			"feature_extractor": ["transformers", "CLIPImageProcessor"], "image_encoder": [null, null], "requires_safety_checker": true,
			"safety_checker": ["optimum.onnxruntime.modeling_diffusion", "ORTModelSafetyChecker"], "unet": ["diffusers", "OnnxRuntimeModel"]}`),
		"diffusers' exporter": func(t *testing.T, dir string) {
			index(`{"_class_name": "OnnxStableDiffusionPipeline", "safety_checker": ["diffusers", "OnnxRuntimeModel"]}`)(t, dir)
			for _, part := range []string{"text_encoder", "unet"} {
				if err := os.Remove(filepath.Join(dir, part, "config.json")); err != nil {
					t.Fatal(err)
				}
			}
			scaling(t, dir)
			for _, junk := range []string{"safety_checker/model.onnx", "feature_extractor/preprocessor_config.json"} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, junk)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, junk), []byte("junk"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"external data": func(t *testing.T, dir string) {
			for part, file := range map[string]string{"unet": "weights.pb", "text_encoder": "model.onnx_data", "vae_decoder": "data/model.onnx.data"} {
				moveOut(t, filepath.Join(dir, part), file)
			}
		},
		"a link inside the folder": func(t *testing.T, dir string) {
			moveOut(t, filepath.Join(dir, "unet"), "weights.pb")
			if err := os.Rename(filepath.Join(dir, "unet", "weights.pb"), filepath.Join(dir, "unet", "blob")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("blob", filepath.Join(dir, "unet", "weights.pb")); err != nil {
				t.Fatal(err)
			}
		},
		"int32 ids": func(t *testing.T, dir string) {
			editModel(t, filepath.Join(dir, "text_encoder", "model.onnx"), func(g *onnxpb.GraphProto) {
				recast(g, "input_ids", onnxpb.TensorProto_INT32)
			})
		},
		"sizes in the configuration alone": func(t *testing.T, dir string) {
			editModel(t, filepath.Join(dir, unet), func(g *onnxpb.GraphProto) {
				g.Input[0] = onnxpb.Value("sample", onnxpb.TensorProto_FLOAT, "batch_size", "channels", "height", "width")
				g.Input[2] = onnxpb.Value("encoder_hidden_states", onnxpb.TensorProto_FLOAT, "batch_size", "length", "width")
			})
		},
		"time as int64 scalar":  timed(onnxpb.TensorProto_INT64),
		"time as int64 [steps]": timed(onnxpb.TensorProto_INT64, "steps"),
		"time as int64 [batch]": timed(onnxpb.TensorProto_INT64, "batch_size"),
		"time as int32 [1]":     timed(onnxpb.TensorProto_INT32, 1),
		"time as float scalar":  timed(onnxpb.TensorProto_FLOAT),
		"time as float [1]":     timed(onnxpb.TensorProto_FLOAT, 1),
		"time as float [batch]": timed(onnxpb.TensorProto_FLOAT, "batch_size"),
		"time as half scalar":   timed(onnxpb.TensorProto_FLOAT16),
		"time as half [1]":      timed(onnxpb.TensorProto_FLOAT16, 1),
		"time as double scalar": timed(onnxpb.TensorProto_DOUBLE),
	} {
		dir := copyModel(t)
		change(t, dir)
		if share, worst := differ(renderTwo(t, dir), want); worst != 0 {
			t.Errorf("%s: %.2f %% of the values differ by more than 1, at most %d", name, 100*share, worst)
		}
	}
}

// recast gives an input of the graph another type, from which it is cast.
func recast(g *onnxpb.GraphProto, name string, to onnxpb.TensorProto_DataType) {
	for _, in := range g.Input {
		if in.Name != name {
			continue
		}
		kind := in.GetType().GetTensorType()
		from := kind.ElemType
		kind.ElemType = int32(to)
		for _, n := range g.Node {
			for i, input := range n.Input {
				if input == name {
					n.Input[i] = "recast_" + name
				}
			}
		}
		g.Node = slices.Insert(g.Node, 0, onnxpb.Node("Cast", []string{name}, []string{"recast_" + name}, onnxpb.AttrInt("to", int64(from))))
	}
}

// timed gives the U-Net a timestep of another type and shape. One that has the
// batch's length has to have it: the graph fails on another.
func timed(kind onnxpb.TensorProto_DataType, dims ...any) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		editModel(t, filepath.Join(dir, "unet", "model.onnx"), func(g *onnxpb.GraphProto) {
			recast(g, "timestep", kind)
			g.Input[1] = onnxpb.Value("timestep", kind, dims...)
			cast := g.Node[0]
			wanted := cast.Output[0]
			cast.Output[0] = "uncut_timestep"
			front := []*onnxpb.NodeProto{cast}
			flat := "uncut_timestep"
			if len(dims) == 1 && dims[0] == "batch_size" {
				front = append(front,
					onnxpb.Node("Shape", []string{"sample"}, []string{"batch_size"}, onnxpb.AttrInt("start", 0), onnxpb.AttrInt("end", 1)),
					onnxpb.Node("Reshape", []string{flat, "batch_size"}, []string{"batch_timestep"}),
					onnxpb.Node("ReduceMax", []string{"batch_timestep"}, []string{"one_timestep"}, onnxpb.AttrInt("keepdims", 0)))
				flat = "one_timestep"
			}
			g.Initializer = append(g.Initializer, onnxpb.Int64s("one_element", []int64{1}, 1))
			front = append(front, onnxpb.Node("Reshape", []string{flat, "one_element"}, []string{wanted}))
			g.Node = append(front, g.Node[1:]...)
		})
	}
}

// moveOut moves the larger weights of a part into a file, as exporters do above
// two gigabytes.
func moveOut(t *testing.T, part, file string) {
	t.Helper()
	var data bytes.Buffer
	editModel(t, filepath.Join(part, "model.onnx"), func(g *onnxpb.GraphProto) {
		for _, w := range g.Initializer {
			if len(w.RawData) < 64 {
				continue
			}
			data.Write(make([]byte, -data.Len()&63))
			offset := data.Len()
			data.Write(w.RawData)
			entry := func(key string, n int) *onnxpb.StringStringEntryProto {
				text, _ := json.Marshal(n)
				return &onnxpb.StringStringEntryProto{Key: key, Value: string(text)}
			}
			w.ExternalData = []*onnxpb.StringStringEntryProto{{Key: "location", Value: file}, entry("offset", offset), entry("length", len(w.RawData))}
			w.RawData, w.DataLocation = nil, onnxpb.TensorProto_EXTERNAL
		}
	})
	path := filepath.Join(part, filepath.FromSlash(file))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data.Bytes(), 0o600); err != nil || data.Len() == 0 {
		t.Fatal(data.Len(), err)
	}
}

// TestVPrediction: what the configuration says of the prediction is heeded.
func TestVPrediction(t *testing.T) {
	dir := copyModel(t)
	changeJSON(t, filepath.Join(dir, "scheduler", "scheduler_config.json"), map[string]string{"prediction_type": "v_prediction"})
	if _, worst := differ(renderTwo(t, dir), renderTwo(t, tiny)); worst == 0 {
		t.Error("the pictures are those of epsilon prediction")
	}
}

// TestFloat16 renders with graphs that hold and compute float16, as exporters
// with --fp16 write them, with the VAE in float16 and in float32. Half precision
// has 11 bits: 97 % of the values within 4/255 of float32 are asked.
func TestFloat16(t *testing.T) {
	want := renderTwo(t, tiny)
	for _, parts := range [][]string{{"text_encoder", "unet", "vae_decoder"}, {"text_encoder", "unet"}, {"vae_decoder"}} {
		dir := copyModel(t)
		for _, part := range parts {
			editModel(t, filepath.Join(dir, part, "model.onnx"), toHalf)
		}
		got := renderTwo(t, dir)
		far, n, worst := 0, 0, 0
		for i := range got {
			for k, a := range got[i].Pix {
				d := int(a) - int(want[i].Pix[k])
				d = max(d, -d)
				worst = max(worst, d)
				if n++; d > 4 {
					far++
				}
			}
		}
		if t.Logf("%v: %d of %d values differ by more than 4, at most %d", parts, far, n, worst); far*100 > 3*n {
			t.Errorf("%v: %d of %d values differ by more than 4", parts, far, n)
		}
		d, err := Describe(dir)
		if err != nil || !strings.Contains(d.Precision, "float16") {
			t.Errorf("%v: precision %q, %v", parts, d.Precision, err)
		}
	}
}

// toHalf makes every float32 of a graph float16: weights, constants, casts,
// inputs and outputs; only the scales of a Resize stay.
func toHalf(g *onnxpb.GraphProto) {
	keep := map[string]bool{}
	for _, n := range g.Node {
		if n.OpType == "Resize" {
			for _, name := range n.Input[1:] {
				keep[name] = name != ""
			}
		}
	}
	tensor := func(w *onnxpb.TensorProto) {
		if onnx.DType(w.DataType) != onnx.Float32 || keep[w.Name] {
			return
		}
		values, err := onnxpb.Floats(w)
		if err != nil {
			panic(err)
		}
		w.RawData, w.FloatData, w.DataType = nil, nil, int32(onnxpb.TensorProto_FLOAT16)
		for _, v := range values {
			bits := onnxpb.Float32ToHalf(v)
			w.RawData = append(w.RawData, byte(bits), byte(bits>>8))
		}
	}
	for _, w := range g.Initializer {
		tensor(w)
	}
	for _, n := range g.Node {
		for _, a := range n.Attribute {
			if a.T != nil && !keep[n.Output[0]] {
				tensor(a.T)
			}
			if n.OpType == "Cast" && a.Name == "to" && a.GetI() == int64(onnxpb.TensorProto_FLOAT) {
				*a.I = int64(onnxpb.TensorProto_FLOAT16)
			}
		}
	}
	for _, v := range slices.Concat(g.Input, g.Output, g.ValueInfo) {
		if kind := v.GetType().GetTensorType(); onnx.DType(kind.GetElemType()) == onnx.Float32 {
			kind.ElemType = int32(onnxpb.TensorProto_FLOAT16)
		}
	}
}

// TestOptimised: graphs that ONNX Runtime's optimiser for diffusion models has
// been through. See tools/vectors/optimised.py.
func TestOptimised(t *testing.T) {
	put := func(t *testing.T, dir, part string) {
		data, err := os.ReadFile(filepath.Join("testdata", "optimised", part+".onnx"))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, part, "model.onnx"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := copyModel(t)
	put(t, dir, "text_encoder")
	if share, worst := differ(renderTwo(t, dir), renderTwo(t, tiny)); share > 0.001 {
		t.Errorf("with the optimised text encoder %.2f %% of the values differ by more than 1, at most %d", 100*share, worst)
	}
	put(t, dir, "vae_decoder")
	_, err := Open(dir, Config{})
	if !errors.Is(err, onnx.ErrNoKernel) || !strings.Contains(err.Error(), "com.microsoft:") || !strings.Contains(err.Error(), "provider cpu") || !strings.Contains(err.Error(), "vae_decoder") {
		t.Errorf("the optimised VAE decoder: %v", err)
	}
	if _, err := Describe(dir); err != nil {
		t.Errorf("without being loaded the model is all right: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	got, err := Describe(tiny)
	if err != nil {
		t.Fatal(err)
	}
	got.Bytes = 0
	want := Description{Class: "StableDiffusionPipeline", Width: 32, Latents: [3]int{4, 8, 8}, PictureHeight: 16, PictureWidth: 16, Precision: "float32", Prediction: "epsilon", Scheduler: "DDIMScheduler"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	files, err := Files(tiny)
	if err != nil || len(files) != 12 || !slices.IsSorted(files) {
		t.Errorf("%v, %v", files, err)
	}
}
