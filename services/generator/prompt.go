package generator

import (
	"strings"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/philox"
)

// marks are what stands for the class's word in a prompt.
var marks = []string{"{}", "{class}"}

// slots counts the places of the word in a prompt.
func slots(prompt string) (n int) {
	for _, m := range marks {
		n += strings.Count(prompt, m)
	}
	return n
}

// fill puts the word in its place.
func fill(prompt, word string) string {
	for _, m := range marks {
		prompt = strings.ReplaceAll(prompt, m, word)
	}
	return prompt
}

// templatePurpose is the purpose of the streams that templates are drawn with.
const templatePurpose = "generator.template"

// of is the decoding of one picture.
func (d Decoding) of(w Work) Decoding {
	if w.Own != nil {
		return *w.Own
	}
	return d
}

// prompt is that of one picture. Its template depends on (seed, label, index) alone.
func (d Decoding) prompt(w Work) string {
	d = d.of(w)
	if n := len(d.Templates); n > 0 {
		key := philox.Key{Seed: d.Seed, Purpose: templatePurpose, Class: uint32(w.Label), Index: uint64(w.Index)}
		return fill(d.Templates[philox.Choose(n, 1, key)[0]], w.Word)
	}
	return fill(d.Prompt, w.Word)
}

// prompts are all that pictures of a word may have.
func (d Decoding) prompts(word string) []string {
	if len(d.Templates) == 0 {
		return []string{fill(d.Prompt, word)}
	}
	var out []string
	for _, t := range d.Templates {
		out = append(out, fill(t, word))
	}
	return out
}

// item is a picture as the model takes it. All its noise is keyed by (seed, label, index).
func (d Decoding) item(w Work) diffusion.Item {
	own := d.of(w)
	item := diffusion.Item{
		Prompt: d.prompt(w), Negative: own.Negative, Guidance: own.Guidance, Embedding: w.Embedding, Init: w.Init, Latents: w.Latents,
		Key: philox.Key{Seed: own.Seed, Purpose: diffusion.NoisePurpose, Class: uint32(w.Label), Index: uint64(w.Index)},
	}
	if w.Embedding != nil {
		item.Token = w.Word
	}
	return item
}

// options are what the pictures of a batch share.
func (d Decoding) options(o diffusion.Options) diffusion.Options {
	o.Steps, o.Guidance, o.Scheduler, o.Eta, o.Strength = d.Steps, d.Guidance, d.Scheduler, d.Eta, d.Strength
	return o
}
