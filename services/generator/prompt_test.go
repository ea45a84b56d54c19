package generator

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/diffusion"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// Templates are drawn by (seed, class, index) alone, and all of them are.
func TestTemplatesAreDrawnBySeed(t *testing.T) {
	d := Decoding{Templates: []string{"a photo of a {class}", "the {}", "{} at night"}, Seed: 3}
	counts := map[string]int{}
	for i := range 300 {
		w := Work{Label: 2, Index: i, Word: "cat"}
		prompt := d.prompt(w)
		if prompt != d.prompt(w) || !strings.Contains(prompt, "cat") || strings.Contains(prompt, "{") {
			t.Fatalf("picture %d: %q", i, prompt)
		}
		counts[prompt]++
	}
	for _, prompt := range d.prompts("cat") {
		if n := counts[prompt]; n < 60 || n > 140 {
			t.Errorf("%q was drawn %d times of 300", prompt, n)
		}
	}
	other, same := d, 0
	other.Seed = 4
	for i := range 300 {
		if w := (Work{Label: 2, Index: i, Word: "cat"}); d.prompt(w) == other.prompt(w) {
			same++
		}
	}
	if same > 150 {
		t.Errorf("another seed draws the same template %d times of 300", same)
	}
}

// A picture with settings of its own differs in those alone, and pictures of
// different settings are rendered together as they are alone.
func TestOwnSettings(t *testing.T) {
	model, err := diffusion.Open("../../internal/diffusion/testdata/tiny", diffusion.Config{Batch: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	d, err := decodingOf(&generatorv1.Rendering{Steps: 3, Scheduler: "euler-ancestral", Prompt: "a {}", NegativePrompt: "red"}, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	var work []Work
	for i, own := range []*generatorv1.Rendering{nil, {Guidance: 7}, {Guidance: 1, Seed: 9}, {Templates: []string{"the {}", "a photo of a {}"}, NegativePrompt: "blue"}} {
		w := Work{Class: "dog", Index: i, Word: "dog"}
		if w.Own, err = d.with(own); err != nil {
			t.Fatal(err)
		}
		work = append(work, w)
	}
	if got := work[1].Own.message(); got.Guidance != 7 || got.NegativePrompt != "red" || got.Prompt != "a {}" || got.Steps != 3 {
		t.Errorf("merged settings: %v", got)
	}
	together, err := Render(t.Context(), model, work, d, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range work {
		alone, err := Render(t.Context(), model, []Work{w}, d.of(w), nil, nil, nil)
		if err != nil || alone[0].SHA256 != together[i].SHA256 || alone[0].Prompt != together[i].Prompt {
			t.Errorf("picture %d, %q, is another alone: %v", i, together[i].Prompt, err)
		}
	}
	if _, err := d.with(&generatorv1.Rendering{Steps: 9, Guidance: 99}); err == nil || !strings.Contains(err.Error(), "rendering.steps") || !strings.Contains(err.Error(), "rendering.guidance") {
		t.Errorf("own steps and a guidance of 99: %v", err)
	}
}

func TestMiddle(t *testing.T) {
	square := make([]uint8, 3*4*4)
	for i := range square {
		square[i] = uint8(i / 3)
	}
	got := middle(square, 4, 2, 4)
	if diff := cmp.Diff(square[3*4:3*12], got); diff != "" {
		t.Error(diff)
	}
	var columns []uint8
	for i, v := range middle(square, 4, 4, 2) {
		if i%3 == 0 {
			columns = append(columns, v)
		}
	}
	if diff := cmp.Diff([]uint8{1, 2, 5, 6, 9, 10, 13, 14}, columns); diff != "" {
		t.Error(diff)
	}
}
