package embedder

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// words is a vocabulary of whole words, in the way of a byte-pair tokenizer: others are several tokens.
type words map[string]int

func (w words) TokenEmbedding(word string) (int, []float32, error) {
	id, ok := w[word]
	if !ok {
		return 0, nil, fmt.Errorf("the word %q is 2 tokens of the model, not one", word)
	}
	return id, []float32{float32(id), -1}, nil
}

var animals = words{"cat": 0, "dog": 1, "pick": 2, "truck": 3, "sea": 4}

func TestWordFor(t *testing.T) {
	for class, want := range map[string]string{
		"cat": "cat", "Cat": "cat", "pickup_truck": "pickup", "sea lion": "sea", "t-shirt": "t", "_x": "x", "": "", "__": "__",
	} {
		if got := WordFor(class, nil); got != want {
			t.Errorf("%q: %q, want %q", class, got, want)
		}
	}
	if got := WordFor("pickup_truck", map[string]string{"pickup_truck": "truck"}); got != "truck" {
		t.Errorf("the word that was given became %q", got)
	}
}

func TestAnchorsFor(t *testing.T) {
	anchors, problems := AnchorsFor(animals, []string{"cat", "pickup_truck", "sea_lion"}, map[string]string{"pickup_truck": "truck"})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i, want := range []Anchor{{Word: "cat", Token: 0}, {Word: "truck", Token: 3}, {Word: "sea", Token: 4}} {
		if a := anchors[i]; a.Word != want.Word || a.Token != want.Token || !slices.Equal(a.Row, []float32{float32(want.Token), -1}) {
			t.Errorf("anchor %d: %+v, want %+v", i, a, want)
		}
	}
	table, err := rows(anchors)
	if err != nil || table.Rows != 3 || table.Cols != 2 || table.Row(1)[0] != 3 {
		t.Errorf("stacked: %+v, %v", table, err)
	}
	anchors[2].Row = []float32{1}
	if _, err := rows(anchors); err == nil || !strings.Contains(err.Error(), `"sea" has 1 dimensions`) {
		t.Errorf("anchors of two widths: %v", err)
	}
}

func TestAnchorsForReportsEveryProblem(t *testing.T) {
	_, problems := AnchorsFor(animals, []string{"cat", "Cat", "unicorn", "sea_lion", "sea_horse", "dog", "gryphon"},
		map[string]string{"dog": "big dog", "zebra": "horse", "aardvark": "pig"})
	want := []string{
		`classes "cat" and "Cat" share the word "cat"; name different words`,
		`class "unicorn": the word "unicorn" is 2 tokens of the model, not one; name another word`,
		`classes "sea_lion" and "sea_horse" share the word "sea"`,
		`class "dog": the word "big dog" is 2 tokens`,
		`class "gryphon"`,
		`the dataset has no class "aardvark"`, // by name, whatever the order of the map
		`the dataset has no class "zebra"`,
	}
	if len(problems) != len(want) {
		t.Fatalf("%d problems: %v", len(problems), problems)
	}
	for i, p := range problems {
		if !strings.Contains(p.Error(), want[i]) {
			t.Errorf("problem %d: %v, want %q", i, p, want[i])
		}
	}
}
