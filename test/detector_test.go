package test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/score/method"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// serveDetector promotes the story's detector, scores with all its scores by the alias, and looks at what the mesh says of
// the traffic and of its measurements.
func serveDetector(ctx context.Context, t *testing.T, m mesh, d *trainerv1.Detector) {
	client := trainerv1.NewTrainerServiceClient(m.trainer)
	if len(d.Scores) != len(method.All()) || d.Score != method.Head || d.Method != "dream-ood" || d.Version != 1 || len(d.Warnings) != 0 {
		t.Errorf("%d scores, %s decides, method %s, version %d, warnings %q", len(d.Scores), d.Score, d.Method, d.Version, d.Warnings)
	}
	if _, err := client.PromoteDetector(ctx, &trainerv1.PromoteDetectorRequest{Name: d.Name, Alias: "2"}); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("an alias that looks like a version: %v", err)
	}
	promoted, err := client.PromoteDetector(ctx, &trainerv1.PromoteDetectorRequest{Name: d.Name, Alias: "live"})
	if err != nil || promoted.Detector.Aliases["live"] != 1 {
		t.Fatalf("promoted %v, %v", promoted.GetDetector().GetAliases(), err)
	}
	alias := d.Name + "@live"
	if _, err := client.ScoreImages(ctx, &trainerv1.ScoreImagesRequest{Detector: alias, Images: pictures(t, 1), Scores: []string{"enrgy"}}); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("a score that is not there: %v", err)
	}
	images := pictures(t, 40)
	all, err := client.ScoreImages(ctx, &trainerv1.ScoreImagesRequest{Detector: alias, Images: images, Scores: []string{"all"}, Aside: true})
	if err != nil || all.Detector != d.Name+"@1" {
		t.Fatalf("scored by %q, %v", all.GetDetector(), err)
	}
	alone, err := client.ScoreImages(ctx, &trainerv1.ScoreImagesRequest{Detector: alias, Images: images})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range all.Scores {
		if len(s.Scores) != len(d.Scores) || s.Scores[method.Head] != s.Score {
			t.Fatalf("picture %d: %v", i, s)
		}
		// The model that decides alone is reduced to that; rounding may differ.
		if off := math.Abs(float64(s.Score - alone.Scores[i].Score)); off > 1e-4*max(1, math.Abs(float64(s.Score))) {
			t.Errorf("picture %d scores %g with all others, %g alone", i, s.Score, alone.Scores[i].Score)
		}
	}
	got, err := client.GetDetector(ctx, &trainerv1.GetDetectorRequest{Name: alias})
	if err != nil {
		t.Fatal(err)
	}
	// The 30 pictures that the story scored before, and these 40 once: those set aside do not count.
	if drift := got.Detector.Drift; drift.GetScored() != 70 || drift.GetWindow() != 70 || !(drift.GetPsi() > 0) {
		t.Errorf("drift %v", drift)
	}
	measurements(ctx, t, client, got.Detector)
}

// measurements downloads what the evaluation was computed from, and computes it again.
func measurements(ctx context.Context, t *testing.T, client trainerv1.TrainerServiceClient, d *trainerv1.Detector) {
	stream, err := client.DownloadMeasurements(ctx, &trainerv1.DownloadMeasurementsRequest{Name: d.Name})
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, p.Data...)
	}
	files, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := evaluation.Read(files)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Summarise(ctx)
	e := d.Evaluation
	if err != nil || len(s.OOD) != len(e.Ood) || s.ID.Accuracy != e.IdAccuracy || s.Averages[0].FPR95IDPositive != e.Averages[0].Fpr95 {
		t.Errorf("computed again: %v; accuracy %g and %g, sets %d and %d", err, s.ID.Accuracy, e.IdAccuracy, len(s.OOD), len(e.Ood))
	}
	for k, r := range s.OOD {
		if r.AUROC != e.Ood[k].Auroc || len(e.Ood[k].ByScore) != len(d.Scores) {
			t.Errorf("%s: AUROC %g and %g, %d scores", r.Name, r.AUROC, e.Ood[k].Auroc, len(e.Ood[k].ByScore))
		}
	}
}
