package main

import (
	"context"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// DetectorCmd groups the commands on detectors.
type DetectorCmd struct {
	List     DetectorListCmd     `cmd:"" help:"List detectors."`
	Get      DetectorGetCmd      `cmd:"" help:"Show one detector and its measurements."`
	Download DetectorDownloadCmd `cmd:"" help:"Write a detector to an ONNX file."`
	Evaluate DetectorEvaluateCmd `cmd:"" help:"Measure a detector on other pictures."`
	Versions DetectorVersionsCmd `cmd:"" help:"List the versions of a detector."`
	Promote  DetectorPromoteCmd  `cmd:"" help:"Point an alias, such as live, to a version."`
	Check    DetectorCheckCmd    `cmd:"" help:"Hold a detector against conditions and a baseline."`
	Delete   DetectorDeleteCmd   `cmd:"" help:"Delete a detector, or one of its versions."`
}

// DetectorListCmd lists detectors.
type DetectorListCmd struct{}

// Run lists detectors.
func (c *DetectorListCmd) Run(ctx context.Context, s *Session) error {
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return err
	}
	var t owned
	t.head("DETECTOR", "VERSION", "CLASSES", "SET", "ID ACCURACY", "MADE")
	err = eachPage(func(token string) (string, error) {
		page, err := trainer.ListDetectors(ctx, &trainerv1.ListDetectorsRequest{PageToken: token})
		for _, d := range page.GetDetectors() {
			if s.json() {
				if err := s.object(d); err != nil {
					return "", err
				}
				continue
			}
			t.row(d.GetOwner(), d.GetName(), max(1, d.GetVersion()), len(d.GetClasses()), or(d.GetSet(), "-"), percent(d.GetEvaluation().GetIdAccuracy()), when(d.GetCreateTime()))
		}
		return page.GetNextPageToken(), err
	})
	if err == nil && !s.json() {
		t.print(s.Out)
	}
	return err
}

// DetectorGetCmd shows a detector.
type DetectorGetCmd struct {
	Name string `arg:"" name:"detector" field:"name" help:"The detector."`
}

// Run shows the detector.
func (c *DetectorGetCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Detectors, c.Name)
	if err != nil {
		return err
	}
	return s.measured(ctx, name, "", "")
}

// getDetector fetches a detector, and prints it where results are JSON.
func (s *Session) getDetector(ctx context.Context, name string) (*trainerv1.Detector, error) {
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return nil, err
	}
	got, err := trainer.GetDetector(ctx, &trainerv1.GetDetectorRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if s.json() {
		return got.GetDetector(), s.object(got.GetDetector())
	}
	return got.GetDetector(), nil
}

// DetectorDownloadCmd writes a detector to a file.
type DetectorDownloadCmd struct {
	Name string `arg:"" name:"detector" field:"name" help:"The detector."`
	Out  string `required:"" type:"path" placeholder:"FILE" help:"File to write."`
}

// Help teaches the command.
func (DetectorDownloadCmd) Help() string {
	return `Writes the detector as ONNX with its preprocessing in the model: input image [N, 3, S, S] float32 in [0, 1];
outputs logits, features, and one for each OOD score, higher for ID. The metadata holds the classes, the score that decides
and the threshold of each. The checksum is verified.

    dreamood detector download regular --out detector.onnx`
}

// Run writes the file.
func (c *DetectorDownloadCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Detectors, c.Name)
	if err != nil {
		return err
	}
	detector, err := s.getDetector(ctx, name)
	if err != nil {
		return err
	}
	return s.download(ctx, detector, c.Out)
}

// DetectorEvaluateCmd measures a detector.
type DetectorEvaluateCmd struct {
	Name     string `arg:"" name:"detector" field:"name" help:"The detector."`
	Test     string `required:"" type:"path" field:"test_dataset" placeholder:"PATH" help:"Labelled ID pictures to test on, of the detector's classes. Made absolute and read by the server."`
	TestSets `embed:""`

	Submission `embed:""`

	Metrics string `type:"path" placeholder:"FILE" help:"Write the detector's description with its measurements to this JSON file when it is done."`
}

// Help teaches the command.
func (DetectorEvaluateCmd) Help() string {
	return `Measures a detector and adds the result to it.

    dreamood detector evaluate regular --test data/test --ood places=data/places --ood svhn=data/svhn.tar.gz`
}

// Validate checks what no server can.
func (c *DetectorEvaluateCmd) Validate() error {
	if len(c.TestSets.all()) == 0 {
		return usage("nothing to measure on; name pictures with --ood, --near, --far or --shifted")
	}
	if c.Metrics != "" && !c.Wait {
		return usage("--metrics needs to wait for the measurement; leave --detach away")
	}
	return nil
}

// Run submits the measurement and follows it.
func (c *DetectorEvaluateCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Detectors, c.Name)
	if err != nil {
		return err
	}
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return err
	}
	made, err := s.submit(ctx, c.Submission, func(requestID string, options *runv1.RunOptions) (*runv1.Run, error) {
		answer, err := trainer.EvaluateDetector(ctx, &trainerv1.EvaluateDetectorRequest{
			Name: name, TestDataset: c.Test, OodDatasets: c.TestSets.ood(), ShiftedDatasets: datasetsOf(c.Shifted), RequestId: requestID, Options: options,
		})
		return answer.GetRun(), err
	})
	if err != nil || made == "" {
		return err
	}
	return s.measured(ctx, name, "", c.Metrics)
}
