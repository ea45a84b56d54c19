package embedder

import (
	"context"
	"errors"
	"fmt"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fit"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/train"
)

// Temperature divides the cosines before the softmax (Dream-OOD, stage 1).
const Temperature = 0.1

// heldOut is the share of every class that measures the space and is neither trained on nor in the bank.
const heldOut = 0.1

// Settings of a space's training; see SpaceTraining in embedder.proto. All are set.
type Settings struct {
	Epochs, Batch, Width, BankPerClass int
	Rate                               float64
	Seed                               uint64
}

// Trained is a space before it is kept.
type Trained struct {
	Encoder  []byte        // ONNX
	Bank     matrix.Matrix // [N, D], unit rows, sorted by class
	Counts   []int         // rows of the bank per class
	Accuracy float64       // share of held-out pictures whose nearest anchor is their class's
	Loss     []fit.Point
}

// TrainSpace learns the space: encoder h with logits cos(h(x), T(y)) / 0.1 over the anchors and cross-entropy
// (Dream-OOD, eq. 2 and its stage-1 code). report is told the steps done.
func TrainSpace(ctx context.Context, ds *dataset.Dataset, anchors []Anchor, s Settings, cfg onnx.Config, checkpoint string,
	metadata map[string]string, report func(done, total int64, message string)) (Trained, error) {
	table, err := rows(anchors)
	if err != nil {
		return Trained{}, err
	}
	training, held, err := dataset.Split(ds, heldOut, s.Seed)
	if err != nil {
		return Trained{}, err
	}
	mean, std := fit.MeanStd(training)
	t, err := train.New(train.Spec{
		Network: train.ResNet9(s.Width),
		Head:    train.Cosine{Anchors: train.Array{Shape: []int{table.Rows, table.Cols}, Data: table.Data}, Temperature: Temperature},
		Height:  ds.Size, Width: ds.Size, Mean: mean, Std: std,
		Batch: min(s.Batch, training.Len()), Seed: s.Seed,
	}, cfg)
	if err != nil {
		return Trained{}, err
	}
	defer t.Close()
	loss, err := fit.Run(ctx, t, training, nil, fit.Config{
		Epochs: s.Epochs, Schedule: train.Schedule{Peak: s.Rate}, Seed: s.Seed, Checkpoint: checkpoint, Augment: dataset.Standard(),
		Report: func(p fit.Progress) {
			report(p.Done, p.Total, "learning the space, "+p.String())
		},
	})
	if err != nil {
		return Trained{}, err
	}
	out := Trained{Loss: loss}
	if out.Encoder, err = t.Inference(metadata); err != nil {
		return Trained{}, err
	}
	model, err := infer.Open(out.Encoder, cfg)
	if err != nil {
		return Trained{}, fmt.Errorf("open the encoder just trained: %w", err)
	}
	err = out.measure(ctx, model, training, held, s.BankPerClass)
	return out, errors.Join(err, model.Close())
}

// measure fills the bank from the pictures trained on, the first ones of every class, and the accuracy from the others.
func (t *Trained) measure(ctx context.Context, model *infer.Model, training, held *dataset.Dataset, perClass int) error {
	var at []int
	for label := range training.Classes {
		of := training.Indices(int32(label))
		of = of[:min(len(of), perClass)]
		t.Counts = append(t.Counts, len(of))
		at = append(at, of...)
	}
	bank, err := model.Dataset(ctx, training.Subset(at), nil, "embedding")
	if err != nil {
		return err
	}
	if t.Bank, err = matrix.Of(bank["embedding"], len(bank["embedding"])/len(at)); err != nil {
		return err
	}
	if err := t.Bank.Check(); err != nil {
		return fmt.Errorf("the bank: %w; lower the learning rate", err)
	}
	if held.Len() == 0 {
		return nil
	}
	out, err := model.Dataset(ctx, held, nil, "logits")
	if err != nil {
		return err
	}
	logits, right, c := out["logits"], 0, len(held.Classes)
	for i, label := range held.Labels {
		if best, _ := nearest(logits[i*c : (i+1)*c]); best == int(label) {
			right++
		}
	}
	t.Accuracy = float64(right) / float64(held.Len())
	return nil
}

// nearest is the class of the largest cosine logit, with its cosine.
func nearest(logits []float32) (class int, cosine float32) {
	for i, v := range logits {
		if v > logits[class] {
			class = i
		}
	}
	return class, logits[class] * Temperature
}
