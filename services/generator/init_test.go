package generator

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/diffusion"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// gradient is a picture of 32×32 pixels that tells which it is.
func gradient(k int) []uint8 {
	pixels := make([]uint8, 3*32*32)
	for i := range pixels {
		pixels[i] = uint8(40*k + i/3%32*4)
	}
	return pixels
}

func openModel(t *testing.T, dir string) *diffusion.Pipeline {
	t.Helper()
	p, err := diffusion.Open(dir, diffusion.Config{Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestBeginWithADataset: index i of a class begins with its i-th picture, round and round.
func TestBeginWithADataset(t *testing.T) {
	root := t.TempDir()
	for k, name := range []string{"a/0.png", "a/1.png", "b/x.png", "b/y.png"} {
		file, err := dataset.EncodePNG(gradient(k), 32)
		path := filepath.Join(root, "id", filepath.FromSlash(name))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, file, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &Service{deps: Deps{Datasets: dataset.Roots{root}}}
	model := openModel(t, "../../models/reference")
	ask := func(path string, model Pipeline, classes ...string) (*beginnings, error) {
		return s.begin(t.Context(), &generatorv1.Init{From: &generatorv1.Init_Dataset{Dataset: path}}, model, classes)
	}
	b, err := ask(filepath.Join(root, "id"), model, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		class       string
		index, want int
	}{{"a", 0, 0}, {"a", 1, 1}, {"a", 2, 0}, {"b", 0, 2}, {"b", 7, 3}} {
		pixels, record := b.of(c.class, c.index)
		if diff := cmp.Diff(gradient(c.want), pixels); diff != "" || len(record.PixelsSha256) != 64 || !strings.Contains(record.File, ".png") {
			t.Errorf("%s %d begins with another picture, %v", c.class, c.index, record)
		}
	}
	for want, err := range map[string]error{
		"no class":       second(ask(filepath.Join(root, "id"), model, "c")),
		"no VAE encoder": second(ask(filepath.Join(root, "id"), openModel(t, "../../internal/diffusion/testdata/tiny"), "a")),
		"init.dataset":   second(ask("/etc", model, "a")),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestStrength: the less strength, the nearer a picture stays to the one that it began with; in company or alone.
func TestStrength(t *testing.T) {
	model := openModel(t, "../../models/reference")
	given := gradient(1)
	var last float64
	for _, strength := range []float64{0.2, 0.9} {
		d, err := checkInit(&generatorv1.Init{From: &generatorv1.Init_Picture{Picture: []byte{1}}}, Decoding{Steps: 10, Guidance: 3, Prompt: "a {}", Seed: 1, Strength: strength})
		if err != nil {
			t.Fatal(err)
		}
		work := []Work{{Class: "cat", Word: "cat", Init: given}, {Class: "cat", Word: "cat", Index: 1, Init: gradient(2)}, {Class: "cat", Word: "cat", Index: 2, Init: given}}
		pictures, err := Render(t.Context(), model, work, d, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := Render(t.Context(), model, work[2:], d, nil, nil, nil)
		if err != nil || alone[0].SHA256 != pictures[2].SHA256 {
			t.Errorf("strength %v: the third picture is another alone: %v", strength, err)
		}
		pixels, err := Picture(t.Context(), "rendered", pictures[0].PNG, 32, 32)
		if err != nil {
			t.Fatal(err)
		}
		apart := 0.0
		for i := range pixels {
			apart += math.Abs(float64(pixels[i])-float64(given[i])) / float64(len(pixels))
		}
		t.Logf("strength %v: mean distance %.1f of 255", strength, apart)
		if apart <= last || strength == 0.2 && apart > 30 {
			t.Errorf("strength %v: %.1f of 255 from the picture; %.1f with less", strength, apart, last)
		}
		last = apart
	}
	d, err := checkInit(&generatorv1.Init{From: &generatorv1.Init_Picture{Picture: []byte{1}}}, Decoding{Steps: 20})
	if err != nil || d.Strength != defaultStrength {
		t.Errorf("strength %v by default, %v", d.Strength, err)
	}
	for want, err := range map[string]error{
		"names no picture":       second(checkInit(&generatorv1.Init{}, Decoding{Steps: 20})),
		"there is no picture":    second(checkInit(nil, Decoding{Steps: 20, Strength: 0.5})),
		"leaves none":            second(checkInit(&generatorv1.Init{From: &generatorv1.Init_Dataset{Dataset: "x"}}, Decoding{Steps: 4, Strength: 0.1})),
		"init.picture: 0 bytes":  second(checkInit(&generatorv1.Init{From: &generatorv1.Init_Picture{}}, Decoding{Steps: 4})),
		"init.dataset: is empty": second(checkInit(&generatorv1.Init{From: &generatorv1.Init_Dataset{}}, Decoding{Steps: 4})),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
