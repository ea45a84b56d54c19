package embedder

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/matrix"
)

// Vocabulary gives the rows of a diffusion model's token-embedding table.
type Vocabulary interface {
	// TokenEmbedding returns the id and row [D] of a word that is one token; the error names the word and its pieces
	// when it is not.
	TokenEmbedding(word string) (id int, row []float32, err error)
}

// Anchor is the row of the token-embedding table that stands for a class: T(y) of Dream-OOD.
type Anchor struct {
	Word  string
	Token int
	Row   []float32 // [D], as in the table
}

// WordFor is the word that stands for a class in prompts: words[class] where it is given, else the first word of
// the class's name (as in the published code, where "aquarium_fish" must be renamed by hand).
func WordFor(class string, words map[string]string) string {
	if w := words[class]; w != "" {
		return w
	}
	f := strings.FieldsFunc(strings.ToLower(class), func(r rune) bool { return r == '_' || r == ' ' || r == '-' })
	if len(f) == 0 {
		return class
	}
	return f[0]
}

// AnchorsFor looks up the anchors of classes. Every class whose word is no token of the model, and every two classes
// with one word, are reported at once, with the remedy.
func AnchorsFor(v Vocabulary, classes []string, words map[string]string) ([]Anchor, []error) {
	var problems []error
	anchors := make([]Anchor, len(classes))
	taken := map[int]string{}
	known := map[string]bool{}
	for i, class := range classes {
		known[class] = true
		word := WordFor(class, words)
		id, row, err := v.TokenEmbedding(word)
		switch other, twice := taken[id]; {
		case err != nil:
			problems = append(problems, fmt.Errorf("class %q: %w; name another word for it in `words`", class, err))
			continue
		case twice:
			problems = append(problems, fmt.Errorf("classes %q and %q share the word %q; name different words in `words`", other, class, word))
		}
		taken[id] = class
		anchors[i] = Anchor{word, id, row}
	}
	for _, class := range slices.Sorted(maps.Keys(words)) {
		if !known[class] {
			problems = append(problems, fmt.Errorf("words: the dataset has no class %q", class))
		}
	}
	return anchors, problems
}

// rows stacks anchors as [C, D].
func rows(anchors []Anchor) (matrix.Matrix, error) {
	m := matrix.New(len(anchors), len(anchors[0].Row))
	for i, a := range anchors {
		if len(a.Row) != m.Cols {
			return m, fmt.Errorf("anchor %q has %d dimensions, %q has %d", a.Word, len(a.Row), anchors[0].Word, m.Cols)
		}
		copy(m.Row(i), a.Row)
	}
	return m, nil
}
