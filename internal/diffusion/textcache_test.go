package diffusion

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// Each distinct prompt and override is computed once, also by a later request;
// what was asked for least recently goes first.
func TestTextCache(t *testing.T) {
	var computed [][]Prompt
	compute := func(_ context.Context, prompts []Prompt) ([]float32, error) {
		computed = append(computed, prompts)
		var out []float32
		for _, p := range prompts {
			n := float32(len(p.Text))
			for _, v := range p.Embedding {
				n += v
			}
			out = append(out, n, -n)
		}
		return out, nil
	}
	size := (&encoded{key: Prompt{Text: "a"}.key(), states: make([]float32, 2)}).bytes()
	c := newTextCache(4 * size)
	word := Prompt{Text: "a", Token: "a", Embedding: []float32{5}}
	for _, want := range []struct {
		ask  []Prompt
		got  []float32
		runs int
	}{
		{[]Prompt{{Text: "a"}, {Text: ""}, {Text: "a"}}, []float32{1, -1, 0, 0, 1, -1}, 1},
		{[]Prompt{word, {Text: "a"}}, []float32{6, -6, 1, -1}, 2},
		{[]Prompt{{Text: ""}, word}, []float32{0, 0, 6, -6}, 2},
	} {
		got, err := c.encode(t.Context(), want.ask, compute)
		if err != nil || !slices.Equal(got, want.got) || len(computed) != want.runs {
			t.Errorf("%v: got %v (%v) after %d computations, want %v after %d", want.ask, got, err, len(computed), want.got, want.runs)
		}
		got[0] = 99 // the caller's own
	}
	if len(computed[0]) != 2 || len(computed[1]) != 1 {
		t.Errorf("computed %v", computed)
	}
	for _, text := range []string{"b", "c", "d", "e", "f"} {
		if _, err := c.encode(t.Context(), []Prompt{{Text: text}, {Text: "f"}}, compute); err != nil {
			t.Fatal(err)
		}
	}
	if c.get(Prompt{Text: "a"}.key()) != nil || c.get(Prompt{Text: "f"}.key()) == nil || c.size > c.limit {
		t.Errorf("%d of %d bytes are kept; the oldest should be gone and the latest there", c.size, c.limit)
	}
	failing := func(context.Context, []Prompt) ([]float32, error) { return nil, errors.New("no memory") }
	if _, err := c.encode(t.Context(), []Prompt{{Text: "new"}}, failing); err == nil || c.get(Prompt{Text: "new"}.key()) != nil {
		t.Errorf("a failed computation gave %v and was kept", err)
	}
}
