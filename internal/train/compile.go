package train

import (
	"fmt"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// Names of the values that a training step reads and writes beside its slots.
const (
	inImages  = "image"   // [B, 3, H, W] in [0, 1]
	inTargets = "targets" // [Batch, C]
	inWeights = "weights" // [Batch]
	inRate    = "rate"    // [1]
	inShare   = "share"   // [1], what a step counts in the moving average

	outLoss   = "loss"      // [1]
	outCE     = "ce"        // [1]
	outOOD    = "ood"       // [1]
	outExtra  = "penalty"   // [1]
	outNorm   = "grad_norm" // [1]
	outLogits = "logits"    // [B, C]
)

// compileStep writes the graph of one training step.
func compileStep(s Spec) (model []byte, slots []graph.Slot, err error) {
	b := graph.New(graph.Training, nil)
	h := s.forward(b, s.Batch, s.Outliers)
	classes := s.Head.Classes()
	targets := b.Input(inTargets, s.Batch, classes)
	weights := b.Input(inWeights, s.Batch)
	rate := b.Input(inRate, 1)

	seen := h.logits
	if h.trained != nil { // its further columns are no class of an in-distribution row
		seen = h.trained
		none := s.Batch * (seen.Shape()[1] - classes)
		targets = b.Columns(targets, b.Const([]int{s.Batch, none / s.Batch}, make([]float32, none)...))
	}
	loss := b.CrossEntropy(b.Rows(seen, 0, s.Batch), targets, weights)
	b.Output(outCE, loss)
	if h.outlier != nil {
		b.Output(outOOD, h.outlier)
		loss = b.WeightedSum(loss, h.outlier, h.beta)
	}
	if h.penalty != nil {
		b.Output(outExtra, h.penalty)
		loss = b.WeightedSum(loss, h.penalty, h.lambda)
	}
	b.Output(outLoss, loss)
	b.Output(outLogits, h.logits)
	b.Backward(loss)
	if norm := b.Update(s.Optimizer, rate); norm != nil {
		b.Output(outNorm, norm)
	}
	if s.EMA > 0 {
		b.Average(b.Input(inShare, 1))
	}
	model, err = b.Model(fmt.Sprintf("train %s", s.Network), nil)
	return model, b.Slots(), err
}

// forward writes pictures → features → head, in training for that many rows, in
// inference for any number.
func (s Spec) forward(b *graph.Builder, id, outliers int) heads {
	rows := id + outliers
	if b.Mode() == graph.Inference {
		rows = graph.Dynamic
	}
	x := b.Input(inImages, rows, 3, s.Height, s.Width)
	x = b.Standardize(x, s.Mean[:], s.Std[:])
	return s.Head.build(b, s.Network.build(b, x), id, outliers)
}

// Export is the trained classifier as an ONNX model with the given custom
// metadata, from the parameters and running statistics in values (others are
// ignored). Input: `image` float32 [N, 3, H, W] in [0, 1]; the standardisation
// is part of the graph. Outputs of a [Classifier]: `logits` [N, C], `energy` [N]
// (logsumexp of the logits), `features` [N, F], with logits = fc(features), and
// where it learned from outliers `ood_score` [N], the logit of in-distribution
// minus that of outlier. Outputs of a [Cosine]: `embedding` [N, D] of length 1
// and `logits` [N, C].
func Export(spec Spec, values map[string]Array, metadata map[string]string) ([]byte, error) {
	spec = spec.withDefaults()
	if err := spec.validate(); err != nil {
		return nil, err
	}
	b := graph.New(graph.Inference, values)
	h := spec.forward(b, 0, 0)
	if h.embedding != nil {
		b.Output("embedding", h.embedding)
		b.Output("logits", h.logits)
	} else {
		b.Output("logits", h.logits)
		b.Output("energy", b.Flatten(h.energy))
		b.Output("features", h.features)
	}
	if h.score != nil {
		b.Output("ood_score", b.Flatten(h.score))
	}
	return b.Model(spec.Network.String(), metadata)
}
