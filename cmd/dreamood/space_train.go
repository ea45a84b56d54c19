package main

import (
	"context"

	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// SpaceTrainCmd learns a space.
type SpaceTrainCmd struct {
	Name    string `arg:"" name:"space" field:"space_id" help:"Name of the new space: 1 to 63 of a-z 0-9 - _."`
	Dataset string `required:"" type:"path" field:"dataset" placeholder:"PATH" help:"Labelled pictures: a folder with one folder per class, or a .zip, .tar or .tar.gz of one. Made absolute and read by the server."`
	Model   string `field:"model" placeholder:"NAME" help:"Diffusion model whose words the classes become (default reference)."`
	Words   []pair `name:"word" sep:"none" field:"words" placeholder:"CLASS=WORD" help:"Word that stands for a class in prompts, one token of the model, where it is not the class's own first word. Repeatable."`

	Epochs       int32   `group:"training" field:"training.epochs" placeholder:"N" help:"Passes over the pictures, 1 to 1000 (default 12)."`
	Batch        int32   `group:"training" field:"training.batch_size" placeholder:"N" help:"Pictures per step, 8 to 1024 (default 128)."`
	LR           float64 `group:"training" name:"lr" field:"training.learning_rate" placeholder:"RATE" help:"Peak learning rate of the one-cycle schedule (default 0.2)."`
	Width        int32   `group:"training" field:"training.width" placeholder:"N" help:"Width of the ResNet-9 encoder, 8 to 64 in steps of 8 (default 24)."`
	BankPerClass int32   `group:"training" field:"training.bank_per_class" placeholder:"N" help:"Embeddings per class that are kept, at least 10 (default 500, or all of fewer)."`
	Seed         uint64  `group:"training" field:"training.seed" placeholder:"N" help:"Seed of everything random (default 1)."`

	Submission `embed:""`
}

// Help teaches the command.
func (SpaceTrainCmd) Help() string {
	return `Learns an encoder under which a picture lies near the token embedding of its class name, and keeps the
embeddings of the pictures as the bank that outliers are sampled from.

    dreamood space train cifar10 --dataset data/cifar10/train
    dreamood space train pets --dataset pets.zip --word "german shepherd=dog" --epochs 30

The dataset path is made absolute here and read by the server, usually on the same machine; it must lie inside one
of the server's dataset roots (serve --dataset-root).`
}

// Run submits the training and follows it.
func (c *SpaceTrainCmd) Run(ctx context.Context, s *Session) error {
	id, err := identifier(ood.Spaces, c.Name)
	if err != nil {
		return err
	}
	embedder, err := client(s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return err
	}
	made, err := s.submit(ctx, c.Submission, func(requestID string, options *runv1.RunOptions) (*runv1.Run, error) {
		answer, err := embedder.TrainSpace(ctx, &embedderv1.TrainSpaceRequest{
			SpaceId: id, Dataset: c.Dataset, Model: c.Model, RequestId: requestID, Options: options, Words: byKey(c.Words),
			Training: &embedderv1.SpaceTraining{
				Epochs: c.Epochs, BatchSize: c.Batch, LearningRate: c.LR, Width: c.Width, BankPerClass: c.BankPerClass, Seed: c.Seed,
			},
		})
		return answer.GetRun(), err
	})
	if err != nil || made == "" {
		return err
	}
	space, err := s.getSpace(ctx, made)
	if err != nil || s.json() {
		return err
	}
	s.say("%s is ready: %d classes, %s of held-out pictures lie nearest to their class", made, len(space.GetClasses()), percent(space.GetAccuracy()))
	s.hint("next: %s", s.command("dreamood imagine "+id+"-outliers --space "+id+" --per-class 100"))
	return nil
}
