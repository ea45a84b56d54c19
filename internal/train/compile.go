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

	outLoss   = "loss"      // [1]
	outCE     = "ce"        // [1]
	outOOD    = "ood"       // [1]
	outNorm   = "grad_norm" // [1]
	outLogits = "logits"    // [B, C]
)

// compileStep writes the graph of one training step.
func compileStep(s Spec) (model []byte, slots []graph.Slot, err error) {
	b := graph.New(graph.Training, nil)
	h := s.forward(b, s.Batch+s.Outliers)
	classes := s.Head.Classes()
	targets := b.Input(inTargets, s.Batch, classes)
	weights := b.Input(inWeights, s.Batch)
	rate := b.Input(inRate, 1)

	loss := b.CrossEntropy(b.Rows(h.logits, 0, s.Batch), targets, weights)
	b.Output(outCE, loss)
	if h.phi != nil {
		ood := b.CrossEntropy(h.phi, isID(b, s.Batch, s.Outliers), nil)
		b.Output(outOOD, ood)
		loss = b.WeightedSum(loss, ood, h.beta)
	}
	b.Output(outLoss, loss)
	b.Output(outLogits, h.logits)
	b.Backward(loss)
	if norm := b.SGD(s.Optimizer, rate); norm != nil {
		b.Output(outNorm, norm)
	}
	model, err = b.Model(fmt.Sprintf("train %s", s.Network), nil)
	return model, b.Slots(), err
}

// forward writes pictures → features → head for the given number of rows.
func (s Spec) forward(b *graph.Builder, rows int) heads {
	x := b.Input(inImages, rows, 3, s.Height, s.Width)
	x = b.Standardize(x, s.Mean[:], s.Std[:])
	return s.Head.build(b, s.Network.build(b, x))
}

// isID is the constant target [B, 2] of φ: column 1 for the in-distribution
// rows, column 0 for the outliers after them.
func isID(b *graph.Builder, id, outliers int) *graph.Tensor {
	data := make([]float32, 0, 2*(id+outliers))
	for i := range id + outliers {
		if i < id {
			data = append(data, 0, 1)
		} else {
			data = append(data, 1, 0)
		}
	}
	return b.Const([]int{id + outliers, 2}, data...)
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
	h := spec.forward(b, graph.Dynamic)
	if h.embedding != nil {
		b.Output("embedding", h.embedding)
		b.Output("logits", h.logits)
	} else {
		b.Output("logits", h.logits)
		b.Output("energy", b.Flatten(h.energy))
		b.Output("features", h.features)
	}
	if h.phi != nil {
		b.Output("ood_score", b.Flatten(b.Linear(h.phi, b.Const([]int{1, 2}, -1, 1), nil)))
	}
	return b.Model(spec.Network.String(), metadata)
}
