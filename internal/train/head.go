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
	// build is given the rows of a training batch; both are 0 in inference.
	build(b *graph.Builder, features *graph.Tensor, id, outliers int) heads
}

// heads are the values that a head computes; nil where it has none.
type heads struct {
	features  *graph.Tensor // [N, F], what the last layer sees
	logits    *graph.Tensor // [N, C]
	embedding *graph.Tensor // [N, D], of length 1
	energy    *graph.Tensor // [N, 1], log Σ exp of the logits
	score     *graph.Tensor // [N, 1], logit of in-distribution minus that of outlier; in inference alone

	weight, bias *graph.Tensor // of the last layer, [C, F] and [C]

	// In training alone:
	trained *graph.Tensor // logits that cross-entropy sees where they have more columns than logits
	outlier *graph.Tensor // loss of the outliers, [1]
	beta    float64       // its weight
	penalty *graph.Tensor // further loss, [1], which needs no pictures
	lambda  float64       // its weight
}

// Classifier is logits = fc(features), trained with cross-entropy, and with
// Outliers also with what they teach.
type Classifier struct {
	N int // number of classes
	// Scale multiplies the features before the last layer; 0 is 1. ResNet9 trains
	// well with 1/8.
	Scale float64
	// Outliers is the loss of the outlier rows; nil is cross-entropy alone.
	Outliers OutlierLoss
	// Singular is a penalty on the last layer; nil is none.
	Singular *Singular
}

// OutlierLoss is what a [Classifier] learns from outliers, L = L_CE + β·L_ood.
// The set is closed: [Energy], [Uniform], [ExtraClass].
type OutlierLoss interface {
	// validate is told the outlier rows of a batch.
	validate(outliers int) error
	// build adds the loss, in training over id rows and the outliers after them,
	// and the score, in inference.
	build(b *graph.Builder, h *heads, id, outliers int)
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
	if c.Outliers != nil {
		errs = append(errs, c.Outliers.validate(outliers))
	} else if outliers > 0 {
		errs = append(errs, fmt.Errorf("%d outlier rows, but the classifier has no loss to learn from them", outliers))
	}
	if c.Singular != nil {
		errs = append(errs, c.Singular.validate())
	}
	return errors.Join(errs...)
}

func (c Classifier) build(b *graph.Builder, features *graph.Tensor, id, outliers int) heads {
	if c.Scale != 0 {
		features = b.Scale(features, c.Scale)
	}
	h := heads{features: features}
	h.weight, h.bias = layer(b, features.Shape()[1], "fc", c.N)
	h.logits = b.Linear(features, h.weight, h.bias)
	if b.Mode() == graph.Inference {
		h.energy = b.LogSumExp(h.logits)
	}
	if c.Outliers != nil {
		c.Outliers.build(b, &h, id, outliers)
	}
	if c.Singular != nil && b.Mode() == graph.Training {
		c.Singular.build(b, &h)
	}
	return h
}

// checkOutliers is the part of validate that all losses of outlier rows share.
func checkOutliers(what string, beta float64, outliers int) error {
	var errs []error
	if outliers == 0 {
		errs = append(errs, fmt.Errorf("the %s loss needs outlier rows in the batch", what))
	}
	if !(beta > 0) || math.IsInf(beta, 0) {
		errs = append(errs, fmt.Errorf("%s loss: beta %g; it is positive", what, beta))
	}
	return errors.Join(errs...)
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

func (c Cosine) build(b *graph.Builder, features *graph.Tensor, _, _ int) heads {
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
