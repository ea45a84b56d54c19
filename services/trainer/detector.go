package trainer

import (
	"context"
	"errors"
	"fmt"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fit"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/score"
	"github.com/dreamood/dreamood/internal/train"
)

// featureScale multiplies the features of a ResNet-9 before its last layer (the DAWNBench recipe).
const featureScale = 0.125

// heldOut is the share of every class that sets the threshold and is not trained on.
const heldOut = 0.1

// scoreName is the score that decides: energy, logsumexp of the logits, higher for ID.
const scoreName = "energy"

// Settings of a detector's training; see DetectorTraining in trainer.proto. All are set.
type Settings struct {
	Epochs, Batch, OutlierBatch, Width int
	Rate, Beta, Recall                 float64
	Seed                               uint64
}

// Trained is a detector before it is kept.
type Trained struct {
	Model     []byte  // ONNX
	Threshold float64 // energy that the wanted share of held-out ID pictures reaches
	Loss      []fit.Point
}

// TrainDetector trains a classifier on ID pictures with L = L_CE + β·L_ood (Dream-OOD, eq. 7): L_ood is the
// cross-entropy of φ(E(x)) over ID pictures and outliers, E = logsumexp of the logits, φ = Linear(1, 2). Without
// outliers it is the plain classifier, L_CE alone, on the same pictures in the same order. report is told the steps done.
func TrainDetector(ctx context.Context, ds, outliers *dataset.Dataset, s Settings, cfg onnx.Config, checkpoint string,
	metadata map[string]string, report func(done, total int64, message string)) (Trained, error) {
	training, held, err := dataset.Split(ds, heldOut, s.Seed)
	if err != nil {
		return Trained{}, err
	}
	mean, std := fit.MeanStd(training)
	head := train.Classifier{N: len(ds.Classes), Scale: featureScale}
	spec := train.Spec{
		Network: train.ResNet9(s.Width), Height: ds.Size, Width: ds.Size, Mean: mean, Std: std,
		Batch: min(s.Batch, training.Len()), Seed: s.Seed,
	}
	if outliers != nil {
		head.Energy = &train.Energy{Beta: s.Beta}
		spec.Outliers = s.OutlierBatch
	}
	spec.Head = head
	t, err := train.New(spec, cfg)
	if err != nil {
		return Trained{}, err
	}
	defer t.Close()
	loss, err := fit.Run(ctx, t, training, outliers, fit.Config{
		Epochs: s.Epochs, Peak: s.Rate, Seed: s.Seed, Checkpoint: checkpoint,
		Report: func(done, total int64, last fit.Point) {
			report(done, total, fmt.Sprintf("training, loss %.3f", last.Total))
		},
	})
	if err != nil {
		return Trained{}, err
	}
	out := Trained{Loss: loss}
	if out.Model, err = t.Inference(metadata); err != nil {
		return Trained{}, err
	}
	model, err := infer.Open(out.Model, cfg)
	if err != nil {
		return Trained{}, fmt.Errorf("open the detector just trained: %w", err)
	}
	r, err := model.Dataset(ctx, held, nil, scoreName)
	if err == nil {
		out.Threshold, err = score.ThresholdAtRecall(widen(r[scoreName]), s.Recall)
	}
	return out, errors.Join(err, model.Close())
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}
