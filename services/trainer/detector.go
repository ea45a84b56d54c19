package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fit"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/score"
	scores "github.com/dreamood/dreamood/internal/score/method"
	"github.com/dreamood/dreamood/internal/train"
)

// featureScale multiplies the features of a ResNet-9 before its last layer (the DAWNBench recipe).
const featureScale = 0.125

// heldOut is the share of every class that sets the threshold and is not trained on.
const heldOut = 0.1

// decides is the score that decides unless another is asked for: the trained head where there is one.
func decides(m method) string {
	if m.head {
		return scores.Head
	}
	return scores.Energy
}

// Settings of a detector's training; see DetectorTraining in trainer.proto. All are set.
type Settings struct {
	Epochs, Batch, OutlierBatch, Width int
	Rate, Beta, Recall                 float64
	Seed                               uint64
	Score                              string // that decides
	Engine

	Method          string
	Hidden          int     // units of φ; 0 is Linear(1, 2)
	SingularWeight  float64 // λ of fever
	ConditionNumber bool

	OutlierResize string  // a resize policy; see resizes
	CodecShare    float64 // of the ID pictures that passed through a VAE
	CodecModel    string  // whose
	Augment       dataset.Augment
}

// Pictures are what a detector is trained on.
type Pictures struct {
	ID       *dataset.Dataset
	Outliers *dataset.Dataset // of the set; nil without one
	Also     *dataset.Dataset // the same outliers by another filter, drawn half of the time; may be nil
	Codec    *dataset.Dataset // the ID pictures, some of which passed through a VAE: what is trained on; nil for ID itself
}

// Trained is a detector before it is kept.
type Trained struct {
	Model  []byte // ONNX, with all scores as outputs
	Scores []Calibrated
	Unfit  map[string]error // scores that are not defined for this detector
	Loss   []fit.Point

	Waiting float64 // share of the steps' time that they waited for pictures
}

// UnfitError says that the score that is to decide is not defined for the detector that was trained.
type UnfitError struct {
	Score string
	cause error
}

// Error says why.
func (e *UnfitError) Error() string {
	return fmt.Sprintf("the score %s cannot decide: %v; choose another", e.Score, e.cause)
}

// Unwrap is the cause.
func (e *UnfitError) Unwrap() error { return e.cause }

// Calibrated is a score with what held-out ID pictures say of it.
type Calibrated struct {
	Name      string
	Threshold float64   // that the wanted share of them reaches
	Quantiles []float64 // at 0, 5, … 100 %
	Bins      []int     // held-out pictures between them
	Refused   float64   // share of them that the threshold refuses
}

// calibrationBins are the bins between the quantiles of a calibration.
const calibrationBins = 20

// TrainDetector trains a classifier on ID pictures with L = L_CE + β·L_ood; L_ood is the method's. The same settings give
// the same initial weights, order and augmentation of the ID pictures in all methods. report is told the steps done.
func TrainDetector(ctx context.Context, in Pictures, s Settings, cfg onnx.Config, checkpoint string,
	metadata map[string]string, report func(done, total int64, message string)) (Trained, error) {
	m, err := methodNamed(s.Method, "")
	if err != nil {
		return Trained{}, err
	}
	training, held, err := dataset.Split(in.ID, heldOut, s.Seed)
	if err != nil {
		return Trained{}, err
	}
	seen := training
	if in.Codec != nil { // the same split: it depends on labels and seed
		if seen, _, err = dataset.Split(in.Codec, heldOut, s.Seed); err != nil {
			return Trained{}, err
		}
	}
	network, err := train.NewNetwork(s.Network, s.Width)
	if err != nil {
		return Trained{}, err
	}
	head := m.classifier(len(in.ID.Classes), s)
	if s.Network != resnet9 {
		head.Scale = 0 // its features alone are large
	}
	mean, std := fit.MeanStd(training)
	spec := train.Spec{
		Network: network, Optimizer: s.optimizer(), EMA: s.EMA, LabelSmoothing: float32(s.LabelSmoothing), Height: in.ID.Size, Width: in.ID.Size, Mean: mean, Std: std,
		Batch: min(s.Batch, training.Len()), Seed: s.Seed, Head: head,
	}
	var waiting float64
	how := fit.Config{
		Epochs: s.Epochs, Schedule: train.Schedule{Kind: s.Schedule, Peak: s.Rate, Warmup: s.Warmup}, Seed: s.Seed, Checkpoint: checkpoint,
		Augment: s.Augment, Also: in.Also, Crop: s.OutlierResize == resizeCrop,
		Report: func(p fit.Progress) {
			report(p.Done, p.Total, fmt.Sprintf("training, %s, %.0f %% of the time waiting for pictures", p, 100*waiting))
		},
		Waiting: func(share float64) { waiting = share },
	}
	switch {
	case in.Outliers == nil:
	case m.labelled:
		how.Inliers, how.InlierWeight = s.OutlierBatch, float32(s.Beta)
		spec.Batch += s.OutlierBatch
	default:
		spec.Outliers = s.OutlierBatch
	}
	t, err := train.New(spec, s.runs(cfg))
	if err != nil {
		return Trained{}, err
	}
	defer t.Close()
	loss, err := fit.Run(ctx, t, seen, in.Outliers, how)
	if err != nil {
		return Trained{}, err
	}
	bare, err := t.Inference(metadata)
	if err != nil {
		return Trained{}, err
	}
	report(t.Steps(), t.Steps(), "fitting scores")
	out, err := addScores(ctx, bare, training, held, s, cfg)
	out.Loss, out.Waiting = loss, waiting
	return out, err
}

// addScores fits all scores on the pictures that a classifier was trained on and calibrates them on held-out ones. The
// model gets the decision with it: its metadata names score and threshold.
func addScores(ctx context.Context, bare []byte, training, held *dataset.Dataset, s Settings, cfg onnx.Config) (Trained, error) {
	features, err := outputs(ctx, bare, cfg, training, "features")
	if err != nil {
		return Trained{}, fmt.Errorf("look at the training pictures: %w", err)
	}
	table, err := matrix.Of(features["features"], len(features["features"])/training.Len())
	if err != nil {
		return Trained{}, err
	}
	labels := make([]int, training.Len())
	for i, y := range training.Labels {
		labels[i] = int(y)
	}
	fitted, err := scores.Extend(bare, table, labels, scores.Options{}, s.Seed)
	if err != nil {
		return Trained{}, err
	}
	if err := fitted.Unfit[s.Score]; err != nil {
		return Trained{}, &UnfitError{s.Score, err}
	}
	values, err := outputs(ctx, fitted.Model, cfg, held, fitted.Scores...)
	if err != nil {
		return Trained{}, fmt.Errorf("calibrate the detector just trained: %w", err)
	}
	out := Trained{Unfit: fitted.Unfit}
	said := map[string]string{"dreamood.score": s.Score}
	for _, name := range fitted.Scores {
		c, err := calibrate(name, score.Widen(values[name]), s.Recall)
		if err != nil {
			return Trained{}, err
		}
		said["dreamood.threshold."+name] = strconv.FormatFloat(c.Threshold, 'g', -1, 64)
		out.Scores = append(out.Scores, c)
	}
	out.Model, err = scores.Describe(fitted.Model, said)
	return out, err
}

// calibrate sets a score's threshold on held-out ID pictures.
func calibrate(name string, held []float64, recall float64) (Calibrated, error) {
	c := Calibrated{Name: name, Bins: make([]int, calibrationBins)}
	var err error
	if c.Threshold, err = score.ThresholdAtRecall(held, recall); err != nil {
		return c, fmt.Errorf("threshold of %s: %w", name, err)
	}
	c.Quantiles = score.Quantiles(held, calibrationBins)
	for _, v := range held {
		c.Bins[score.Bin(c.Quantiles[1:calibrationBins], v)]++
		if v < c.Threshold {
			c.Refused += 1 / float64(len(held))
		}
	}
	return c, nil
}

// outputs runs a model once on a dataset.
func outputs(ctx context.Context, model []byte, cfg onnx.Config, ds *dataset.Dataset, names ...string) (map[string][]float32, error) {
	m, err := infer.Open(model, cfg)
	if err != nil {
		return nil, err
	}
	r, err := m.Dataset(ctx, ds, nil, names...)
	return r, errors.Join(err, m.Close())
}

// threshold is that of a score.
func (t Trained) threshold(name string) float64 {
	for _, c := range t.Scores {
		if c.Name == name {
			return c.Threshold
		}
	}
	return math.NaN()
}
