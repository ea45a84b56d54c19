// Package method holds the OOD scores of a detector: how each is fitted on ID training features, and the ONNX nodes that
// compute it from the features, the logits and the last layer, so that one forward pass of one file gives them all and
// every runtime gives the same numbers. Higher is more ID for all of them.
//
// Each score stands in a file of its own. Its formula exists once, as ONNX nodes; the tests run these against NumPy and
// pytorch-ood on features of a real network.
package method

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/matrix"
)

// Names of the scores; each is also the name of the model's output, [N] float32.
const (
	Energy = "energy"
	Head   = "head"
)

// ErrUnfit means that a score is not defined for this detector. The others are.
var ErrUnfit = errors.New("the score is not defined for this detector")

// Training is what scores are fitted on: ID training pictures as the detector sees them, and its last layer.
type Training struct {
	Features matrix.Matrix // [N, D], what the last layer sees
	Labels   []int         // [N], 0 to C-1
	Weight   matrix.Matrix // [C, D]
	Bias     []float32     // [C]
	Seed     uint64        // of the choice of a bank
}

// Options are the constants of the scores. Zero means the default, that of OpenOOD v1.5 unless said otherwise.
type Options struct {
	GENGamma        float64 // 0.1
	GENTop          int     // most probable classes that count; 100
	ReActPercentile float64 // of ID activations, where they are cut; 90
	ASHPercentile   float64 // of a picture's activations, below which they are dropped; 90
	SCALEPercentile float64 // 85
	KNNRows         int     // training features kept at most; 10000 (OpenOOD keeps all)
	KNNK            int     // neighbour; 50, fewer in proportion where features were left out
	GuideRows       int     // of NNGuide's bank; 1000
	GuideK          int     // 100, at most a tenth of the bank
	ViMDimension    int     // of the principal space; D/2 (the paper's rule below 768 features)
	NCIAlpha        float64 // 1e-4
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v    *float64
		then float64
	}{
		{&o.GENGamma, 0.1}, {&o.ReActPercentile, 90}, {&o.ASHPercentile, 90}, {&o.SCALEPercentile, 85}, {&o.NCIAlpha, 1e-4},
	} {
		if *d.v == 0 {
			*d.v = d.then
		}
	}
	for _, d := range []struct {
		v    *int
		then int
	}{
		{&o.GENTop, 100}, {&o.KNNRows, 10000}, {&o.KNNK, 50}, {&o.GuideRows, 1000}, {&o.GuideK, 100},
	} {
		if *d.v == 0 {
			*d.v = d.then
		}
	}
	return o
}

// inputs are the values of the model that scores are computed from.
type inputs struct {
	features string // [N, D]
	logits   string // [N, C]
	weight   string // [C, D]
	bias     string // [C]
	head     string // [N]; "" where the detector has no trained head
}

// fitted is a score that is ready to be written into a graph.
type fitted struct {
	emit   func(g *emitter, in inputs) string // returns the name of the value, [N] or [N, 1]
	params map[string]any                     // for the model's metadata
}

// Method is one score.
type Method struct {
	Name   string
	Source string // the paper
	fit    func(t *fitting, o Options) (fitted, error)
}

// All are the scores, in the order of their kinds: logits, shaped activations, neighbours, Gaussians, spaces, trained.
func All() []Method {
	return []Method{
		msp(), maxLogit(), energy(), gen(), reAct(), ashS(), scale(), knn(), nnGuide(), mds(), rmds(), vim(), fdbd(), nci(), head(),
	}
}

// Names are those of All.
func Names() []string {
	var names []string
	for _, m := range All() {
		names = append(names, m.Name)
	}
	return names
}

// Known returns an error that lists the names when there is no score of that name.
func Known(name string) error {
	if slices.Contains(Names(), name) {
		return nil
	}
	return fmt.Errorf("no score is called %q; there are %s", name, strings.Join(Names(), ", "))
}

func (t Training) check() error {
	if err := t.Features.Check(); err != nil {
		return fmt.Errorf("features: %w", err)
	}
	if err := t.Weight.Check(); err != nil {
		return fmt.Errorf("last layer: %w", err)
	}
	c, d, n := t.Weight.Rows, t.Weight.Cols, t.Features.Rows
	if c < 2 || n < c || t.Features.Cols != d || len(t.Bias) != c || len(t.Labels) != n {
		return fmt.Errorf("fit scores on features [%d, %d] with %d labels, weights [%d, %d] and %d biases: want at least two classes, a feature row and a label for every picture, and as many columns as the last layer has",
			n, t.Features.Cols, len(t.Labels), c, d, len(t.Bias))
	}
	seen := make([]bool, c)
	for i, y := range t.Labels {
		if y < 0 || y >= c {
			return fmt.Errorf("fit scores: label %d is %d; there are %d classes", i, y, c)
		}
		seen[y] = true
	}
	if i := slices.Index(seen, false); i >= 0 {
		return fmt.Errorf("fit scores: class %d has no training picture", i)
	}
	return nil
}
