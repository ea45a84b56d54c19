package trainer

import (
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// methodRandomPrompt is the pixel-space baseline that Dream-OOD is compared with: the same training, on pictures of the
// plain prompt, in which no word is replaced.
func methodRandomPrompt() method {
	m := methodDreamOOD()
	m.name = "random-prompt"
	m.fits = func(set *generatorv1.Set) error {
		if set.GetSource() != generatorv1.Source_SOURCE_WORDS {
			return fault.Invalid("set", "%s was rendered from sampled embeddings; random-prompt is about pictures of the plain words: make a set with --source words, or take --method dream-ood", set.GetName())
		}
		return nil
	}
	return m
}
