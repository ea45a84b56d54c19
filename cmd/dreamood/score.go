package main

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/ood"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// ScoreCmd scores pictures.
type ScoreCmd struct {
	Detector  string   `arg:"" name:"detector" field:"detector" help:"The detector."`
	Files     []string `arg:"" name:"file" field:"images" help:"Pictures (PNG, JPEG, WebP), or folders to search for them."`
	FailOnOOD bool     `name:"fail-on-ood" help:"Exit with 3 when a picture is out of distribution."`
}

// Help teaches the command.
func (ScoreCmd) Help() string {
	return `Prints for every picture its likeliest class, that class's probability, the OOD score (higher for ID) and the
decision: in or OUT of distribution. The pictures are read here and sent to the server, 64 at a time.

    dreamood score regular cat.png holiday/
    dreamood score regular incoming/ --fail-on-ood --output json | jq -r 'select(.outOfDistribution).file'`
}

// Run scores the pictures.
func (c *ScoreCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Detectors, c.Detector)
	if err != nil {
		return err
	}
	files, err := findPictures(c.Files)
	if err != nil {
		return err
	}
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return err
	}
	var rows columnsOf
	outside := 0
	err = exchange(ctx, files, trainer.StreamScores, func(images [][]byte, first bool) *trainerv1.StreamScoresRequest {
		message := &trainerv1.StreamScoresRequest{Images: images}
		if first {
			message.Detector = name
		}
		return message
	}, func(batch []string, answer *trainerv1.StreamScoresResponse) error {
		if len(answer.GetScores()) != len(batch) {
			return fmt.Errorf("score %s: the server answered %d pictures with %d scores", batch[0], len(batch), len(answer.GetScores()))
		}
		rows.header(s, batch, "FILE", "CLASS", "PROBABILITY", "SCORE", "DECISION")
		for i, score := range answer.GetScores() {
			decision := "in"
			if score.GetOutOfDistribution() {
				decision = "OUT"
				outside++
			}
			if s.json() {
				if err := s.objectOf(batch[i], score); err != nil {
					return err
				}
				continue
			}
			rows.row(s, batch[i], score.GetClass(), fmt.Sprintf("%.3f", score.GetProbability()), fmt.Sprintf("%.3f", score.GetScore()), decision)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.hint("%d of %d pictures are out of distribution", outside, len(files))
	if outside > 0 && c.FailOnOOD {
		return &exitError{code: exitOOD}
	}
	return nil
}
