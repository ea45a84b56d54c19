package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/dreamood/dreamood/internal/ood"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// ScoreCmd scores pictures.
type ScoreCmd struct {
	Detector  string   `arg:"" optional:"" name:"detector" field:"detector" help:"The detector: detector, detector@7 or detector@live."`
	Files     []string `arg:"" optional:"" name:"file" field:"images" help:"Pictures (PNG, JPEG, WebP), or folders to search for them."`
	FailOnOOD bool     `name:"fail-on-ood" help:"Exit with 3 when a picture is out of distribution."`
	Scores    []string `field:"scores" placeholder:"NAME,…" help:"Other scores to show beside the one that decides, or all."`

	ByHand ByHandFlags `embed:"" group:"byhand"`
}

// Help teaches the command.
func (ScoreCmd) Help() string {
	return `Prints for every picture its likeliest class, that class's probability, the OOD score (higher for ID) and the
decision: in or OUT of distribution. The pictures are read here and sent to the server, 64 at a time.

    dreamood score regular cat.png holiday/
    dreamood score regular@live incoming/ --scores energy,knn,vim
    dreamood score regular incoming/ --fail-on-ood --output json | jq -r 'select(.outOfDistribution).file'

With --id it measures a detector's ONNX file without a server: every score of every picture as NumPy files, metrics.json,
and a report. --detector may also name a detector of the server, whose file is then fetched.

    dreamood score --detector detector.onnx --id data/test --near tiny=data/tiny --far svhn=data/svhn --out scores/
    dreamood score --detector detector.onnx --id data/test --ood svhn=data/svhn --out new/ --baseline old/ \
        --fail-if 'fpr95>baseline+0.01' --report new/report.html
    dreamood metrics --id scores/id/knn.npy --ood scores/ood/svhn/knn.npy`
}

// Validate tells the two uses of the command apart.
func (c *ScoreCmd) Validate() error {
	byHand := c.ByHand.Model != "" || c.ByHand.ID != "" || c.ByHand.Out != ""
	switch {
	case byHand && (c.Detector != "" || len(c.Files) > 0 || c.FailOnOOD):
		return usage("--detector, --id and --out measure a detector; leave the pictures away, or name the detector as an argument to score them")
	case byHand:
		return c.ByHand.check()
	case c.Detector == "" || len(c.Files) == 0:
		return usage("name a detector and pictures; or measure one with --detector, --id and --out")
	case c.ByHand.VerdictFlags.asks() || len(c.ByHand.sets().all()) > 0:
		return usage("--ood, --fail-if and --report measure a detector; give --detector, --id and --out, too")
	}
	return nil
}

// Run scores the pictures.
func (c *ScoreCmd) Run(ctx context.Context, s *Session) error {
	if c.ByHand.ID != "" {
		return c.ByHand.run(ctx, s)
	}
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
			message.Detector, message.Scores = name, c.Scores
		}
		return message
	}, func(batch []string, answer *trainerv1.StreamScoresResponse) error {
		if len(answer.GetScores()) != len(batch) {
			return fmt.Errorf("score %s: the server answered %d pictures with %d scores", batch[0], len(batch), len(answer.GetScores()))
		}
		others := slices.Sorted(maps.Keys(answer.GetScores()[0].GetScores()))
		rows.header(s, batch, append([]string{"FILE", "CLASS", "PROBABILITY", "SCORE", "DECISION"}, others...)...)
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
			cells := []string{score.GetClass(), fmt.Sprintf("%.3f", score.GetProbability()), fmt.Sprintf("%.3f", score.GetScore()), decision}
			for _, other := range others {
				cells = append(cells, fmt.Sprintf("%.4g", score.GetScores()[other]))
			}
			rows.row(s, batch[i], cells...)
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
