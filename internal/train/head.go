package train

import (
	"errors"
	"fmt"
	"math"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// Head turns features into logits and a loss. The set is closed: [Classifier]
// and [Cosine].
type Head interface {
	// Classes is the number of classes C.
	Classes() int
	validate(outliers int) error
	build(b *graph.Builder, features *graph.Tensor) heads
}

// heads are the values that a head computes; nil where it has none.
type heads struct {
	features  *graph.Tensor // [N, F], what the last layer sees
	logits    *graph.Tensor // [N, C]
	embedding *graph.Tensor // [N, D], of length 1
	energy    *graph.Tensor // [N, 1], log Σ exp of the logits
	phi       *graph.Tensor // [N, 2], logits of outlier (0) and in-distribution (1)
	beta      float64       // weight of the loss on phi
}

// Classifier is logits = fc(features), trained with cross-entropy, and with
// Energy also with the outlier regularisation of Dream-OOD.
type Classifier struct {
	N int // number of classes
	// Scale multiplies the features before the last layer; 0 is 1. ResNet9 trains
	// well with 1/8.
	Scale float64
	// Energy adds the regularisation; nil is cross-entropy alone.
	Energy *Energy
}

// Energy is the outlier regularisation of VOS and Dream-OOD (Du et al. 2023,
// eq. 7): Beta · cross-entropy(φ(E), is in-distribution), E = logsumexp(logits),
// over the in-distribution and outlier rows of one batch.
type Energy struct {
	Beta float64
	// Hidden units of φ = Linear(1, Hidden)-ReLU-Linear(Hidden, 2); 0 is φ = Linear(1, 2).
	Hidden int
}

// Classes is the number of classes.
func (c Classifier) Classes() int { return c.N }

func (c Classifier) validate(outliers int) error {
	var errs []error
	if c.N < 2 {
		errs = append(errs, fmt.Errorf("classifier of %d classes: at least 2 are needed", c.N))
	}
	if !(c.Scale >= 0) || math.IsInf(c.Scale, 0) {
		errs = append(errs, fmt.Errorf("classifier scale %g: it is positive, or 0 for 1", c.Scale))
	}
	switch {
	case c.Energy == nil && outliers > 0:
		errs = append(errs, fmt.Errorf("%d outlier rows, but the classifier has no energy loss to learn from them", outliers))
	case c.Energy == nil:
	case outliers == 0:
		errs = append(errs, errors.New("the energy loss needs outlier rows in the batch"))
	case !(c.Energy.Beta > 0) || math.IsInf(c.Energy.Beta, 0) || c.Energy.Hidden < 0:
		errs = append(errs, fmt.Errorf("energy loss %+v: beta is positive, hidden units are not negative", *c.Energy))
	}
	return errors.Join(errs...)
}

func (c Classifier) build(b *graph.Builder, features *graph.Tensor) heads {
	if c.Scale != 0 {
		features = b.Scale(features, c.Scale)
	}
	h := heads{features: features, logits: linear(b, features, "fc", c.N)}
	if c.Energy == nil {
		if b.Mode() == graph.Inference {
			h.energy = b.LogSumExp(h.logits)
		}
		return h
	}
	h.energy = b.LogSumExp(h.logits)
	h.beta = c.Energy.Beta
	if c.Energy.Hidden == 0 {
		h.phi = linear(b, h.energy, "phi", 2)
		return h
	}
	h.phi = linear(b, b.Relu(linear(b, h.energy, "phi.0", c.Energy.Hidden)), "phi.2", 2)
	return h
}

// Cosine is the head of the text-conditioned space (Dream-OOD, stage 1): the
// embedding is fc(features) at length 1, the logits are its cosines to fixed
// anchors over the temperature, trained with cross-entropy.
type Cosine struct {
	Anchors     Array   // [C, D], one row for each class, of any length but 0
	Temperature float64 // 0 is 0.1
}

// Classes is the number of anchors.
func (c Cosine) Classes() int {
	if len(c.Anchors.Shape) != 2 {
		return 0
	}
	return c.Anchors.Shape[0]
}

func (c Cosine) temperature() float64 {
	if c.Temperature == 0 {
		return 0.1
	}
	return c.Temperature
}

func (c Cosine) validate(outliers int) error {
	var errs []error
	if !(c.temperature() > 0) {
		errs = append(errs, fmt.Errorf("temperature %g: it must be positive", c.Temperature))
	}
	if outliers > 0 {
		errs = append(errs, fmt.Errorf("%d outlier rows: the cosine head has no loss for them", outliers))
	}
	s := c.Anchors.Shape
	if len(s) != 2 || s[0] < 2 || s[1] < 1 || len(c.Anchors.Data) != s[0]*s[1] {
		return errors.Join(append(errs, fmt.Errorf("anchors of shape %v with %d values: want [classes, dimensions], at least 2 classes", s, len(c.Anchors.Data)))...)
	}
	for i := range s[0] {
		if l := length(c.Anchors.Data[i*s[1] : (i+1)*s[1]]); !(l > 0) || math.IsInf(l, 0) {
			errs = append(errs, fmt.Errorf("anchor %d has the length %g: it must be positive and finite", i, l))
		}
	}
	return errors.Join(errs...)
}

func (c Cosine) build(b *graph.Builder, features *graph.Tensor) heads {
	n, d := c.Anchors.Shape[0], c.Anchors.Shape[1]
	unit := make([]float32, n*d)
	for i := range n {
		row := c.Anchors.Data[i*d : (i+1)*d]
		l := length(row)
		for j, v := range row {
			unit[i*d+j] = float32(float64(v) / l)
		}
	}
	h := heads{features: features, embedding: b.Normalize(linear(b, features, "fc", d))}
	h.logits = b.Scale(b.Linear(h.embedding, b.Const([]int{n, d}, unit...), nil), 1/c.temperature())
	return h
}

func length(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}
