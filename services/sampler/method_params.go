package sampler

import (
	"fmt"
	"math"
	"strings"

	"github.com/dreamood/dreamood/internal/philox"
)

// Modes of a method.
const (
	// ModePaper picks the candidates that the paper describes.
	ModePaper = "paper"
	// ModeReference repeats the published code, which picks others, index for
	// index; see docs/method.md. "knn" and "inlier" have it.
	ModeReference = "reference"
)

// PaperDim is the width of the embeddings that the constants of the paper were
// chosen for (CLIP ViT-L/14, Stable Diffusion 1.x).
const PaperDim = 768

// Params are the constants of a method, see [Method.Defaults] for those of the
// paper.
type Params struct {
	K      int     // neighbour whose distance tells the density; the point itself counts
	Select int     // points of the bank that make up the boundary
	Pick   int     // boundary points per round, drawn without replacement
	Noises int     // noises per round, shared by the picked points
	Sigma  float64 // standard deviation of the noise per dimension; see SigmaForCosine
	Keep   int     // candidates kept per picked point
	Seed   uint64  // of all random draws
	Mode   string  // [ModePaper] or, for "knn" and "inlier", [ModeReference]; "" means the first

	Alpha  float64 // "boundary": length of one step
	Steps  int     // "boundary": at most this many until the prediction flips
	Beyond int     // "boundary": further steps after the flip
	Lower  float64 // "pca-shell": quantile of the Mahalanobis distances, inner bound
	Upper  float64 // "pca-shell": outer bound
}

// PerRound is the number of samples in one round.
func (p Params) PerRound() int { return p.Pick * p.Keep }

// CosineForSigma is the expected cosine between a unit vector and the same plus
// noise of standard deviation sigma in each of dim dimensions:
// 1/sqrt(1 + sigma²·dim). In 768 dimensions 0.07 gives 0.458.
func CosineForSigma(sigma float64, dim int) float64 {
	return 1 / math.Sqrt(1+sigma*sigma*float64(dim))
}

// SigmaForCosine is the inverse of [CosineForSigma]: the sigma at which samples
// keep the given cosine, of (0, 1), to their source in dim dimensions.
func SigmaForCosine(cosine float64, dim int) float64 {
	return math.Sqrt((1/(cosine*cosine) - 1) / float64(dim))
}

// FittedTo adapts constants of the paper to a bank of another size or width:
// sigma so that the cosine to the source stays what it was in 768 dimensions,
// and, where the bank is too small, Select and Pick to what it has and K to the
// paper's share of a class (300 of 500).
func (p Params) FittedTo(bankSize, dim int) Params {
	p.Select = min(p.Select, bankSize)
	p.Pick = min(p.Pick, p.Select)
	if share := max(1, bankSize*300/500); p.K > bankSize {
		p.K = share
	}
	if dim > 0 {
		p.Sigma = SigmaForCosine(CosineForSigma(p.Sigma, PaperDim), dim)
	}
	return p
}

// Problem is one thing wrong with parameters.
type Problem struct {
	Field   string // lower-case name of the field of Params
	Message string // what is wrong and the remedy
}

// Problems is everything wrong with parameters, as one error.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Field + ": " + p.Message
	}
	return "sampler parameters: " + strings.Join(lines, "; ")
}

// Validate reports every problem that the parameters of "knn" or "inlier" have
// with a bank [bankSize, dim] as [Problems], or nil.
func (p Params) Validate(bankSize, dim int) error {
	var ps Problems
	bad := func(field, format string, args ...any) {
		ps = append(ps, Problem{field, fmt.Sprintf(format, args...)})
	}
	if bankSize < 1 || dim < 1 {
		bad("bank", "has shape [%d, %d]; train the space with pictures of this class first", bankSize, dim)
	}
	atLeastOne := func(field string, v int) {
		if v < 1 {
			bad(field, "is %d; it must be at least 1", v)
		}
	}
	atLeastOne("k", p.K)
	atLeastOne("select", p.Select)
	atLeastOne("pick", p.Pick)
	atLeastOne("noises", p.Noises)
	atLeastOne("keep", p.Keep)
	if bankSize > 0 && p.K > bankSize {
		bad("k", "is %d, but the bank of this class has %d embeddings; lower k to at most %d (the paper takes 300 of 500) or keep more embeddings per class", p.K, bankSize, bankSize)
	}
	if bankSize > 0 && p.Select > bankSize {
		bad("select", "is %d, but the bank of this class has %d embeddings; lower select to at most %d", p.Select, bankSize, bankSize)
	}
	if p.Pick > p.Select {
		bad("pick", "is %d, but only %d points are selected and they are drawn without replacement; lower pick or raise select", p.Pick, p.Select)
	}
	if p.Keep > p.Noises {
		bad("keep", "is %d of %d noises; lower keep or raise noises", p.Keep, p.Noises)
	}
	if dim > 0 && p.Noises > philox.MaxWords/dim {
		bad("noises", "is %d in %d dimensions; at most %d numbers can be drawn per round: lower noises and ask for more rounds", p.Noises, dim, philox.MaxWords)
	}
	if !(p.Sigma > 0) || p.Sigma > maxNoise {
		bad("sigma", "is %v; it must be positive and at most 1e6 (%.4f keeps the paper's cosine of 0.458 in %d dimensions)", p.Sigma, SigmaForCosine(CosineForSigma(0.07, PaperDim), max(dim, 1)), max(dim, 1))
	}
	if p.Mode != "" && p.Mode != ModePaper && p.Mode != ModeReference {
		bad("mode", "is %q; there are %q and %q", p.Mode, ModePaper, ModeReference)
	}
	if ps == nil {
		return nil
	}
	return ps
}
