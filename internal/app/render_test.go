package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/philox"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

const tinyModel = "../diffusion/testdata/tiny"

func writeArray(t *testing.T, path string, data []float32, shape ...int) string {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = npy.Write(f, data, shape...)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func renderByHand(t *testing.T, j Rendering) []*generatorv1.Picture {
	t.Helper()
	r, err := j.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []*generatorv1.Picture
	if err := r.Render(t.Context(), func(p *generatorv1.Picture) error { out = append(out, p); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(out) != r.Count() {
		t.Fatalf("%d pictures of %d", len(out), r.Count())
	}
	return out
}

// TestRenderByHand: embeddings and noise from files give pictures that do not
// depend on batches; noise from a file is noise drawn; records are replayed to
// the same bytes; dumps hold what went in and came out.
func TestRenderByHand(t *testing.T) {
	dir := t.TempDir()
	embeddings, noise := make([]float32, 3*32), make([]float32, 3*4*8*8)
	philox.Normals(embeddings, philox.Key{Purpose: "test"})
	for i := range 3 {
		philox.Normals(noise[i*256:(i+1)*256], philox.Key{Seed: 5, Purpose: "diffusion.noise", Class: 2, Index: uint64(i)})
	}
	j := Rendering{
		Model: tinyModel, Class: "dog", Label: 2, Threads: 1, Version: "test",
		Embeddings: writeArray(t, filepath.Join(dir, "e.npy"), embeddings, 3, 32),
		Settings:   &generatorv1.Rendering{Steps: 4, Scheduler: "euler-ancestral", Seed: 5, Templates: []string{"a {class}", "a photo of a {}"}, NegativePrompt: "red"},
		DumpText:   filepath.Join(dir, "text.npy"), DumpNegative: filepath.Join(dir, "negative.npy"), DumpLatents: filepath.Join(dir, "latents.npy"),
	}
	want := renderByHand(t, j)
	for path, shape := range map[string][]int{j.DumpText: {3, 16, 32}, j.DumpNegative: {3, 16, 32}, j.DumpLatents: {3, 5, 4, 8, 8}} {
		data, got, err := readFloats(path)
		if err != nil || !slices.Equal(got, shape) {
			t.Fatalf("%s: shape %v, %v; want %v", path, got, err, shape)
		}
		if path != j.DumpLatents {
			continue
		}
		// Euler begins with the noise times its largest σ.
		sigma := data[0] / noise[0]
		for i := range 3 {
			for k := range 256 {
				if d := data[i*5*256+k] - sigma*noise[i*256+k]; d > 1e-4 || d < -1e-4 {
					t.Fatalf("picture %d begins with %v, want %v", i, data[i*5*256+k], sigma*noise[i*256+k])
				}
			}
		}
	}
	j.DumpText, j.DumpNegative, j.DumpLatents = "", "", ""
	j.Batch = 2
	j.Latents = writeArray(t, filepath.Join(dir, "z.npy"), noise, 3, 4, 8, 8)
	given := renderByHand(t, j)
	for i := range want {
		if diff := cmp.Diff(want[i].Png, given[i].Png); diff != "" {
			t.Errorf("picture %d is another with its noise from a file, in batches of 2", i)
		}
		if given[i].Record.LatentsSha256 == "" || want[i].Record.LatentsSha256 != "" {
			t.Errorf("picture %d: the records do not tell given noise from drawn noise", i)
		}
	}
	replayer := Replayer{Model: tinyModel, Threads: 1}
	defer replayer.Close()
	var records []*generatorv1.PictureRecord
	for _, p := range want {
		records = append(records, p.Record)
	}
	n := 0
	err := replayer.Render(t.Context(), records, func(_ *generatorv1.PictureRecord, png []byte) error {
		if diff := cmp.Diff(want[n].Png, png); diff != "" {
			t.Errorf("picture %d is replayed to another", n)
		}
		n++
		return nil
	})
	if err != nil || n != 3 {
		t.Errorf("replayed %d of 3: %v", n, err)
	}
	if err := replayer.Render(t.Context(), []*generatorv1.PictureRecord{given[0].Record}, nil); err == nil || !strings.Contains(err.Error(), "noise that was given") {
		t.Errorf("a picture of given noise is replayed: %v", err)
	}
}

// TestEmbeddingRows: the shapes that hold embeddings of words of one token and of several.
func TestEmbeddingRows(t *testing.T) {
	data := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(i)
		}
		return out
	}
	for _, c := range []struct {
		shape       []int
		k, d, label int
		rows        int // 0: refused
		first       float32
	}{
		{[]int{4}, 1, 4, 0, 1, 0},
		{[]int{3, 4}, 1, 4, 0, 3, 0},
		{[]int{3, 1, 4}, 1, 4, 0, 3, 0},
		{[]int{2, 3, 4}, 1, 4, 1, 3, 12},
		{[]int{2, 3, 4}, 1, 4, 2, 0, 0},
		{[]int{3, 5}, 1, 4, 0, 0, 0},
		{[]int{2, 4}, 2, 4, 0, 1, 0},
		{[]int{3, 2, 4}, 2, 4, 0, 3, 0},
		{[]int{3, 8}, 2, 4, 0, 3, 0},
		{[]int{5, 3, 2, 4}, 2, 4, 4, 3, 96},
		{[]int{3, 4}, 2, 4, 0, 0, 0}, // 3 rows are no word of 2 tokens
		{[]int{3, 3, 4}, 2, 4, 0, 0, 0},
		{nil, 1, 4, 0, 0, 0},
	} {
		n := 1
		for _, s := range c.shape {
			n *= s
		}
		rows, ok := embeddingRows(data(n), c.shape, c.k, c.d, c.label)
		if ok != (c.rows > 0) || len(rows) != c.rows || ok && (rows[0][0] != c.first || len(rows[0]) != c.k*c.d) {
			t.Errorf("shape %v, %d tokens of %d, label %d: %d rows, %v; want %d", c.shape, c.k, c.d, c.label, len(rows), ok, c.rows)
		}
	}
}

// What cannot work is refused with the flag or setting, before anything is rendered.
func TestRenderByHandErrors(t *testing.T) {
	dir := t.TempDir()
	wrong := writeArray(t, filepath.Join(dir, "wrong.npy"), make([]float32, 33), 33)
	few := writeArray(t, filepath.Join(dir, "few.npy"), make([]float32, 32), 1, 32)
	for want, change := range map[string]func(*Rendering){
		"[n, 32]":              func(j *Rendering) { j.Embeddings = wrong },
		"3 token(s)":           func(j *Rendering) { j.Embeddings, j.Class = few, "ship" },
		"it has 1 rows":        func(j *Rendering) { j.Embeddings, j.Count = few, 2 },
		"want [n, 4, 8, 8]":    func(j *Rendering) { j.Latents = few },
		"-1; want 1 or more":   func(j *Rendering) { j.Count = -1 },
		"no such file":         func(j *Rendering) { j.Init = filepath.Join(dir, "none.png") },
		"no picture to begin":  func(j *Rendering) { j.Settings.Strength = 0.5 },
		"rendering.guidance":   func(j *Rendering) { j.Settings.Guidance = 99 },
		"eta":                  func(j *Rendering) { j.Settings.Eta, j.Settings.Scheduler = 0.5, "plms" },
		"does not occur":       func(j *Rendering) { j.Settings.Prompt, j.Embeddings = strings.Repeat("red ", 30)+"{}", few },
		"must hold {}":         func(j *Rendering) { j.Settings.Prompt = "a dog" },
		"open diffusion model": func(j *Rendering) { j.Model = dir },
	} {
		j := Rendering{Model: tinyModel, Class: "dog", Threads: 1, Settings: &generatorv1.Rendering{Steps: 2}}
		change(&j)
		r, err := j.Open(t.Context())
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
