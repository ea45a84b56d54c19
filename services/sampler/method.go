package sampler

import (
	"context"
	"fmt"
	"strings"

	"github.com/dreamood/dreamood/internal/matrix"
)

// A Method finds embeddings of low (or, for inliers, high) likelihood around
// the ID embeddings of one class. To add one, write it in a file of its own and
// add a line to [Methods].
type Method interface {
	// Name is what requests call it.
	Name() string
	// Summary says in a sentence what it samples, with its source.
	Summary() string
	// Defaults are the constants of its paper; [Params.FittedTo] adapts them
	// to another bank.
	Defaults() Params
	// Prepare does the work that is the same for every sample of a class. The
	// input is not kept, nor changed. The result is safe for concurrent use and
	// worth caching.
	Prepare(ctx context.Context, in Input, params Params) (Sampler, error)
}

// Input is what a class is prepared from.
type Input struct {
	Bank    matrix.Matrix // ID embeddings of the class [N, D], of any norms
	Class   int           // row of Anchors and element of Banks that is this class
	Anchors matrix.Matrix // token embeddings of all classes of the space [C, D]; only "boundary" needs them
	// Banks gives the ID embeddings of all classes, for the methods that share a
	// statistic between classes. It may be slow; nil where there is only Bank.
	Banks func(ctx context.Context) ([]matrix.Matrix, error)
	// Noise, where it has rows, replaces the random noise: [rounds·Noises, D],
	// standard normal, before sigma. A range beyond its rounds is an error.
	Noise matrix.Matrix
}

// A Sampler draws from the surroundings of one prepared class.
type Sampler interface {
	// Boundary describes the points that are drawn from.
	Boundary() Boundary
	// Sample calls yield with samples [Offset, Offset+Count) of the class, in
	// order. Sample i depends on the bank, the parameters, the class and i
	// alone, not on the range asked for or the number of workers. It stops at
	// the first error of yield and returns it, and when ctx ends.
	Sample(ctx context.Context, r Range, yield func(Outlier) error) error
}

// Range says which samples of a class are wanted.
type Range struct {
	Class  uint32    // class number, part of the key of every random draw
	Offset int       // first sample
	Count  int       // number of samples
	Anchor []float32 // token embedding of the class [D], optional
}

// Outlier is one sampled embedding; from the method "inlier" it is an inlier.
type Outlier struct {
	Class             uint32
	Index             int       // number of the sample within its class
	Round             int       // round that it was drawn in
	Source            int       // row of the bank that the noise was added to
	NoiseIndex        int       // noise of the round, from 0
	Rank              int       // 0 is the best candidate of its source in this round
	Embedding         []float32 // [D], unit L2 norm; the receiver owns it
	KthDistance       float32   // squared L2 to the K-th nearest row of the bank
	SourceKthDistance float32   // the same of the source, itself counted
	CosineToSource    float32
	CosineToAnchor    float32 // 0 without an anchor
}

// Methods are all methods, in the order in which they are listed to clients.
func Methods() []Method {
	return []Method{
		KNN{},
		Inlier{},
		Gaussian{},
		NPOS{},
		CrossBoundary{},
		PCAShell{},
	}
}

// Lookup finds a method by its name; "" is the first of [Methods].
func Lookup(name string) (Method, error) {
	var names []string
	for _, m := range Methods() {
		if name == "" || m.Name() == name {
			return m, nil
		}
		names = append(names, m.Name())
	}
	return nil, fmt.Errorf("no method %q; there are %s", name, strings.Join(names, ", "))
}
