package generator

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

func TestDecodingDefaults(t *testing.T) {
	want := Decoding{Model: "small", Steps: defaultSteps, Guidance: defaultGuidance, Prompt: defaultPrompt, Seed: 1}
	for _, q := range []*generatorv1.Rendering{nil, {}} {
		if d, err := decodingOf(q, "small"); err != nil || cmp.Diff(want, d) != "" {
			t.Errorf("%v: %+v, %v", q, d, err)
		}
	}
	// What is recorded gives the same decoding again, whatever the defaults are then.
	for _, q := range []*generatorv1.Rendering{
		{Model: "sd", Steps: 1000, Guidance: 30, Scheduler: "pndm", Prompt: "{}", Seed: 7},
		{Model: "sd", Steps: 9, Guidance: 2, Scheduler: "ddim", Templates: []string{"a {class}", "the {}"}, Seed: 7, NegativePrompt: "grey", Eta: 0.5, Strength: 0.3},
	} {
		d, err := decodingOf(q, "small")
		if err != nil || !proto.Equal(d.message(), q) {
			t.Errorf("%v came back as %v, %v", q, d.message(), err)
		}
	}
}

func TestDecodingBounds(t *testing.T) {
	for _, c := range []struct {
		q      *generatorv1.Rendering
		fields []string
	}{
		{&generatorv1.Rendering{Steps: 1, Guidance: 1}, nil},
		{&generatorv1.Rendering{Steps: -1, Guidance: 0.99, Scheduler: "heun", Prompt: "a picture"},
			[]string{"rendering.steps", "rendering.guidance", "rendering.scheduler", "rendering.prompt"}},
		{&generatorv1.Rendering{Steps: 1001, Guidance: 30.1, Prompt: "{} and {}"}, []string{"rendering.steps", "rendering.guidance", "rendering.prompt"}},
		{&generatorv1.Rendering{Guidance: math.NaN(), Prompt: "{}" + strings.Repeat("x", 999)}, []string{"rendering.guidance", "rendering.prompt"}},
		{&generatorv1.Rendering{Guidance: math.Inf(1)}, []string{"rendering.guidance"}},
		{&generatorv1.Rendering{Eta: 2, Strength: -1, NegativePrompt: strings.Repeat("x", 1001)}, []string{"rendering.negative_prompt", "rendering.eta", "rendering.strength"}},
		{&generatorv1.Rendering{Eta: 0.5, Scheduler: "plms"}, []string{"rendering.eta"}},
		{&generatorv1.Rendering{Prompt: "{}", Templates: []string{"{}", "{class} {}"}}, []string{"rendering.prompt", "rendering.templates[1]"}},
		{&generatorv1.Rendering{Templates: slices.Repeat([]string{"{}"}, 65)}, []string{"rendering.templates"}},
	} {
		_, err := decodingOf(c.q, "small")
		var f *fault.Error
		var fields []string
		if errors.As(err, &f) {
			for _, v := range f.Violations {
				fields = append(fields, v.Field)
			}
		}
		if !slices.Equal(fields, c.fields) {
			t.Errorf("%v: %v, want problems with %q", c.q, err, c.fields)
		}
	}
}

func TestModelNamesStayInTheirFolder(t *testing.T) {
	m := newModels("../../models", func(dir string) (Pipeline, error) { return diffusion.Open(dir, diffusion.Config{}) })
	for name, reason := range map[string]fault.Reason{
		"../models/reference": fault.InvalidArgument, "/etc": fault.InvalidArgument, "": fault.InvalidArgument, "none": fault.NotFound,
	} {
		if _, err := m.get(t.Context(), name); fault.ReasonOf(err) != reason {
			t.Errorf("model %q: %v, want %s", name, err, reason)
		}
	}
	if names, err := m.names(); err != nil || !slices.Contains(names, "reference") {
		t.Errorf("models %v, %v", names, err)
	}
}
