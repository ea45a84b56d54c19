package main

import (
	"context"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// TrainCmd trains a detector.
type TrainCmd struct {
	Name    string `arg:"" name:"detector" field:"detector_id" help:"Name of the new detector: 1 to 63 of a-z 0-9 - _."`
	Dataset string `required:"" type:"path" field:"dataset" placeholder:"PATH" help:"Labelled ID pictures to train on: a folder with one folder per class, or a .zip, .tar or .tar.gz of one. Made absolute and read by the server."`
	Test    string `required:"" type:"path" field:"test_dataset" placeholder:"PATH" help:"Labelled ID pictures to test on, of the same classes."`
	OOD     []pair `name:"ood" sep:"none" field:"ood_datasets" placeholder:"NAME=PATH" help:"OOD pictures to measure on, with their name in results; never trained on. Repeatable."`
	Set     string `field:"set" placeholder:"SET" help:"Outlier set to train with; without one, the plain classifier."`

	Epochs       int32   `group:"training" field:"training.epochs" placeholder:"N" help:"Passes over the ID pictures, 1 to 1000 (default 12)."`
	Batch        int32   `group:"training" field:"training.batch_size" placeholder:"N" help:"ID pictures per step, 8 to 1024 (default 128)."`
	OutlierBatch int32   `group:"training" field:"training.outlier_batch_size" placeholder:"N" help:"Outliers per step, 1 to 1024 (default as many as ID pictures)."`
	LR           float64 `group:"training" name:"lr" field:"training.learning_rate" placeholder:"RATE" help:"Peak learning rate of the one-cycle schedule (default 0.2)."`
	Width        int32   `group:"training" field:"training.width" placeholder:"N" help:"Width of the ResNet-9 classifier, 8 to 64 in steps of 8 (default 24)."`
	Beta         float64 `group:"training" field:"training.beta" placeholder:"X" help:"Weight of the OOD loss, above 0 to 100 (default 2.5)."`
	Seed         uint64  `group:"training" field:"training.seed" placeholder:"N" help:"Seed of everything random (default 1)."`
	TargetRecall float64 `group:"training" field:"training.target_recall" placeholder:"X" help:"Share of ID that the threshold accepts, above 0 and below 1 (default 0.95)."`

	Submission `embed:""`

	ONNX    string `name:"onnx" type:"path" placeholder:"FILE" help:"Write the detector to this file when it is done."`
	Metrics string `type:"path" placeholder:"FILE" help:"Write the detector's description with its measurements to this JSON file when it is done."`
}

// Help teaches the command.
func (TrainCmd) Help() string {
	return `Trains a classifier with cross-entropy, and with --set also to tell ID pictures from outliers; then measures it.

    dreamood train plain   --dataset data/train --test data/test --ood svhn=data/svhn --ood dtd=data/dtd.zip
    dreamood train regular --dataset data/train --test data/test --ood svhn=data/svhn --set outliers \
        --onnx out/detector.onnx --metrics out/metrics.json

FPR95 is the share of OOD pictures that are accepted when 95 % of the ID pictures are. Paths are made absolute here and
read by the server, usually on the same machine; they must lie inside its dataset roots (serve --dataset-root).`
}

// Validate checks what no server can.
func (c *TrainCmd) Validate() error {
	if (c.ONNX != "" || c.Metrics != "") && !c.Wait {
		return usage("--onnx and --metrics need to wait for the detector; leave --detach away, or use detector download later")
	}
	return nil
}

// Run submits the training and follows it.
func (c *TrainCmd) Run(ctx context.Context, s *Session) error {
	id, err := identifier(ood.Detectors, c.Name)
	if err != nil {
		return err
	}
	set := c.Set
	if set != "" {
		if set, err = resource(ood.Sets, set); err != nil {
			return err
		}
	}
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return err
	}
	made, err := s.submit(ctx, c.Submission, func(requestID string, options *runv1.RunOptions) (*runv1.Run, error) {
		answer, err := trainer.TrainDetector(ctx, &trainerv1.TrainDetectorRequest{
			DetectorId: id, Dataset: c.Dataset, TestDataset: c.Test, OodDatasets: datasetsOf(c.OOD), Set: set, RequestId: requestID, Options: options,
			Training: &trainerv1.DetectorTraining{
				Epochs: c.Epochs, BatchSize: c.Batch, OutlierBatchSize: c.OutlierBatch, LearningRate: c.LR, Width: c.Width,
				Beta: c.Beta, Seed: c.Seed, TargetRecall: c.TargetRecall,
			},
		})
		return answer.GetRun(), err
	})
	if err != nil || made == "" {
		return err
	}
	if err := s.measured(ctx, made, c.ONNX, c.Metrics); err != nil {
		return err
	}
	s.hint("next: %s", s.command("dreamood score "+id+" FILE…"))
	return nil
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
