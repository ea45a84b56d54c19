package main

import (
	"context"

	"github.com/alecthomas/kong"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// TrainCmd trains a detector.
type TrainCmd struct {
	Name       string `arg:"" name:"detector" field:"detector_id" help:"Name of the new detector: 1 to 63 of a-z 0-9 - _."`
	Dataset    string `required:"" type:"path" field:"dataset" placeholder:"PATH" help:"Labelled ID pictures to train on: a folder with one folder per class, or a .zip, .tar or .tar.gz of one. Made absolute and read by the server."`
	Test       string `required:"" type:"path" field:"test_dataset" placeholder:"PATH" help:"Labelled ID pictures to test on, of the same classes."`
	TestSets   `embed:""`
	Set        string `field:"set" placeholder:"SET" help:"Outlier set to train with (inliers for dream-id); without one, the plain classifier."`
	Method     string `group:"training" field:"training.method" placeholder:"NAME" help:"How: vanilla, dream-ood, oe, extra-class, vos, npos, random-prompt, fever or dream-id (default dream-ood with --set, vanilla without)."`
	NewVersion bool   `field:"new_version" help:"Make the next version of a detector that there is already (detector@2, …)."`

	Epochs         int32    `group:"training" field:"training.epochs" placeholder:"N" help:"Passes over the ID pictures, 1 to 1000 (default 12)."`
	Batch          int32    `group:"training" field:"training.batch_size" placeholder:"N" help:"ID pictures per step, 8 to 1024 (default 128)."`
	OutlierBatch   int32    `group:"training" field:"training.outlier_batch_size" placeholder:"N" help:"Outliers per step, 1 to 1024 (default as many as ID pictures)."`
	LR             float64  `group:"training" name:"lr" field:"training.learning_rate" placeholder:"RATE" help:"Peak learning rate (default 0.2 for resnet9, 0.1 for others; 0.002 with adamw)."`
	Width          int32    `group:"training" field:"training.width" placeholder:"N" help:"Width of the network, 8 to 64 in steps of 8 (default 24 for resnet9, 16 for wrn-…, else 64)."`
	Beta           *float64 `group:"training" field:"training.beta" placeholder:"X" help:"Weight of the OOD loss, above 0 to 100 (default the method's: 2.5 for dream-ood, vos, npos, random-prompt and fever, 1 for extra-class and dream-id, 0.5 for oe)."`
	Network        string   `group:"training" field:"training.network" placeholder:"NAME" help:"resnet9 (default), resnet18, resnet34, resnet18-imagenet, resnet34-imagenet, wrn-16-2 or wrn-40-2."`
	Optimizer      string   `group:"training" field:"training.optimizer" placeholder:"NAME" help:"sgd (default) or adamw."`
	WeightDecay    *float64 `group:"training" field:"training.weight_decay" placeholder:"X" help:"Weight decay, not of biases and batch normalisation (default 5e-4 with sgd, 0.05 with adamw)."`
	Schedule       string   `group:"training" field:"training.schedule" placeholder:"NAME" help:"Learning rate over the steps: onecycle (default), cosine or constant."`
	Warmup         *float64 `group:"training" field:"training.warmup" placeholder:"X" help:"Share of the steps in which the learning rate rises, 0 to 0.9 (default 0.25 with onecycle, else 0.05)."`
	EMA            float64  `group:"training" name:"ema" field:"training.ema" placeholder:"X" help:"Decay of a moving average of the weights, which is then the detector, below 1 (default 0, none)."`
	LabelSmoothing float64  `group:"training" field:"training.label_smoothing" placeholder:"X" help:"Label smoothing, 0 to below 1 (default 0)."`
	ClipNorm       float64  `group:"training" field:"training.clip_norm" placeholder:"X" help:"Bound on the norm of all gradients (default 0, none)."`
	Precision      string   `group:"training" field:"training.precision" placeholder:"NAME" help:"Of the steps: fp32 (default), or bf16 by the OpenVINO provider, faster on CPUs that have it."`

	Hidden       int32   `group:"training" field:"training.hidden" placeholder:"N" help:"Hidden units of the head on the energy (default 0, a linear one)."`
	Singular     float64 `group:"training" field:"training.singular_weight" placeholder:"X" help:"Weight of the singular-value term of fever (default 0.1)."`
	Condition    bool    `group:"training" field:"training.condition_number" help:"With fever: the condition number instead of 1/smallest singular value."`
	Seed         uint64  `group:"training" field:"training.seed" placeholder:"N" help:"Seed of everything random (default 1)."`
	TargetRecall float64 `group:"training" field:"training.target_recall" placeholder:"X" help:"Share of ID that the threshold accepts, above 0 and below 1 (default 0.95)."`

	OutlierResize string  `group:"pictures" field:"training.outlier_resize" placeholder:"HOW" help:"How outliers come to the size of ID pictures: bicubic, bilinear, nearest, random (bilinear or nearest) or crop (default bicubic)."`
	CodecShare    float64 `group:"pictures" field:"training.codec_share" placeholder:"X" help:"Share of the ID training pictures that pass through the VAE of the set's diffusion model, so that its blur is no sign of an outlier, 0 to 1 (default 0)."`
	CodecModel    string  `group:"pictures" field:"training.codec_model" placeholder:"NAME" help:"Diffusion model whose VAE that is (default the set's)."`
	Augment       Augment `embed:"" group:"pictures"`

	Score string   `group:"training" field:"training.score" placeholder:"NAME" help:"Score that decides: msp, maxlogit, energy, gen, react, ash-s, scale, knn, nnguide, mds, rmds, vim, fdbd, nci or head (default head with --set, energy without)."`
	Seeds []uint64 `group:"training" placeholder:"N,…" help:"Train once with each of these seeds, as DETECTOR-sN, and print the mean and standard deviation."`

	Submission   `embed:""`
	VerdictFlags `embed:""`
	Local        string `type:"path" placeholder:"DIR" help:"Without a server: run the mesh in this process, with its data in DIR. A killed training goes on with the same command."`
	Models       string `default:"models" type:"path" placeholder:"DIR" help:"Folder of the diffusion models, for --local (default models)."`

	ONNX    string `name:"onnx" type:"path" placeholder:"FILE" help:"Write the detector to this file when it is done."`
	Metrics string `type:"path" placeholder:"FILE" help:"Write the detector's description with its measurements to this JSON file when it is done."`
}

// Help teaches the command.
func (TrainCmd) Help() string {
	return `Trains a classifier with cross-entropy, and with --set also to tell ID pictures from outliers; then measures it.

    dreamood train plain   --dataset data/train --test data/test --ood svhn=data/svhn --ood dtd=data/dtd.zip
    dreamood train regular --dataset data/train --test data/test --ood svhn=data/svhn --set outliers \
        --onnx out/detector.onnx --metrics out/metrics.json

    dreamood train regular --dataset data/train --test data/test --near tiny=data/tiny --far svhn=data/svhn \
        --shifted fog=data/fog --set outliers --new-version --fail-if 'fpr95>0.35' --fail-if 'fpr95>baseline+0.01' \
        --baseline regular@live --junit out/junit.xml --report out/report.html
    dreamood train plain --dataset data/train --test data/test --far svhn=data/svhn --local .dreamood

--fail-if takes METRIC[SET] OP BOUND: fpr95, fpr95_ood_positive, auroc, aupr_in, aupr_out of all, near, far or one OOD set
(a mean without a set); accuracy (of a shifted set, too), ece, refused. BOUND is a number, or baseline+number: then it holds
only when the difference is significant in a bootstrap of the test pictures. The exit code is 5 when a condition holds.

FPR95 is the share of OOD pictures that are accepted when 95 % of the ID pictures are. Paths are made absolute here and
read by the server, usually on the same machine; they must lie inside its dataset roots (serve --dataset-root).`
}

// Validate checks what no server can.
func (c *TrainCmd) Validate() error {
	switch {
	case (c.ONNX != "" || c.Metrics != "" || c.VerdictFlags.asks() || len(c.Seeds) > 0) && !c.Wait:
		return usage("--onnx, --metrics, --fail-if, --junit, --report and --seeds need to wait for the detector; leave --detach away")
	case len(c.Seeds) > 0 && (c.ONNX != "" || c.Metrics != "" || c.VerdictFlags.asks() || c.Seed != 0 || c.RequestID != ""):
		return usage("--seeds makes several detectors: leave --seed, --onnx, --metrics, --request-id, --fail-if, --junit and --report away, and ask for those of one with dreamood detector")
	case c.Beta != nil && !(*c.Beta > 0):
		return usage("--beta %g: the weight of the OOD loss is above 0; for a classifier without it leave --set away", *c.Beta)
	case c.Local != "" && !c.Wait:
		return usage("--local works in this process: it cannot be detached")
	}
	return c.VerdictFlags.check()
}

// Run submits the training and follows it.
func (c *TrainCmd) Run(ctx context.Context, s *Session) error {
	if c.Local == "" {
		return c.run(ctx, s)
	}
	roots := []string{c.Dataset, c.Test}
	for _, set := range c.TestSets.all() {
		roots = append(roots, kong.ExpandPath(set.value))
	}
	return s.locally(ctx, c.Local, c.Models, roots, c.run)
}

func (c *TrainCmd) run(ctx context.Context, s *Session) error {
	id, err := identifier(ood.Detectors, c.Name)
	if err != nil {
		return err
	}
	judge, err := c.VerdictFlags.open(ctx, s)
	if err != nil {
		return err
	}
	if len(c.Seeds) > 0 {
		return c.runSeeds(ctx, s, id)
	}
	made, err := s.submit(ctx, c.Submission, func(requestID string, options *runv1.RunOptions) (*runv1.Run, error) {
		return c.ask(ctx, s, id, c.Seed, requestID, options)
	})
	if err != nil || made == "" {
		return err
	}
	name, err := s.newest(ctx, made)
	if err != nil {
		return err
	}
	if err := s.measured(ctx, name, c.ONNX, c.Metrics); err != nil {
		return err
	}
	s.hint("next: %s", s.command("dreamood score "+id+" FILE…"))
	return judge.decide(ctx, s, name)
}

// ask submits the training of one detector.
func (c *TrainCmd) ask(ctx context.Context, s *Session, id string, seed uint64, requestID string, options *runv1.RunOptions) (*runv1.Run, error) {
	set := c.Set
	if set != "" {
		var err error
		if set, err = resource(ood.Sets, set); err != nil {
			return nil, err
		}
	}
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return nil, err
	}
	training := &trainerv1.DetectorTraining{
		Epochs: c.Epochs, BatchSize: c.Batch, OutlierBatchSize: c.OutlierBatch, LearningRate: c.LR, Width: c.Width,
		Seed: seed, TargetRecall: c.TargetRecall, Score: c.Score,
		Network: c.Network, Optimizer: c.Optimizer, WeightDecay: c.WeightDecay, Schedule: c.Schedule, Warmup: c.Warmup, Ema: c.EMA,
		LabelSmoothing: c.LabelSmoothing, ClipNorm: c.ClipNorm, Precision: c.Precision,
		Method: c.Method, Hidden: c.Hidden, SingularWeight: c.Singular, ConditionNumber: c.Condition,
		OutlierResize: c.OutlierResize, CodecShare: c.CodecShare, CodecModel: c.CodecModel, Augmentation: c.Augment.message(),
	}
	if c.Beta != nil {
		training.Beta = *c.Beta
	}
	answer, err := trainer.TrainDetector(ctx, &trainerv1.TrainDetectorRequest{
		DetectorId: id, Dataset: c.Dataset, TestDataset: c.Test, OodDatasets: c.TestSets.ood(), ShiftedDatasets: datasetsOf(c.Shifted), Set: set,
		NewVersion: c.NewVersion, RequestId: requestID, Options: options, Training: training,
	})
	return answer.GetRun(), err
}

// measured prints a detector's measurements, and writes its model and description where files are named.
func (s *Session) measured(ctx context.Context, name, model, metrics string) error {
	detector, err := s.getDetector(ctx, name)
	if err != nil {
		return err
	}
	if !s.json() {
		s.describeDetector(detector)
	}
	if metrics != "" {
		if err := writeMetrics(metrics, detector); err != nil {
			return err
		}
	}
	if model != "" {
		return s.download(ctx, detector, model)
	}
	return nil
}
