package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"github.com/dreamood/dreamood/internal/app"
	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/ood"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// ByHandFlags measure a detector without a server.
type ByHandFlags struct {
	Model    string `name:"detector" placeholder:"FILE" help:"The detector's ONNX file; or its name on the server, to fetch it from there."`
	ID       string `name:"id" type:"path" placeholder:"PATH" help:"Labelled ID pictures, of the detector's classes."`
	HandSets `embed:""`
	Out      string `type:"path" placeholder:"DIR" help:"Folder for metrics.json, and the scores, features and predictions as .npy."`
	By       string `name:"by" placeholder:"SCORE" help:"Score that decides (default: the detector's own)."`
	Force    bool   `help:"Replace what an earlier measurement left in the folder."`
	Threads  int    `placeholder:"N" help:"Threads of the native engine (default: one per core)."`

	VerdictFlags `embed:""`
}

// HandSets are TestSets that no request carries.
type HandSets struct {
	OOD     []pair `name:"ood" sep:"none" placeholder:"NAME=PATH" help:"OOD pictures to measure on, with their name in results. Repeatable."`
	Near    []pair `sep:"none" placeholder:"NAME=PATH" help:"The same, counted in the mean over near OOD sets, too. Repeatable."`
	Far     []pair `sep:"none" placeholder:"NAME=PATH" help:"The same, counted in the mean over far OOD sets, too. Repeatable."`
	Shifted []pair `sep:"none" placeholder:"NAME=PATH" help:"Shifted ID pictures, labelled, of the same classes, to measure the accuracy on. Repeatable."`
}

func (f ByHandFlags) sets() TestSets { return TestSets(f.HandSets) }

// check says what belongs together.
func (f ByHandFlags) check() error {
	var missing []string
	for _, flag := range []struct{ name, value string }{{"--detector", f.Model}, {"--id", f.ID}, {"--out", f.Out}} {
		if flag.value == "" {
			missing = append(missing, flag.name)
		}
	}
	if len(missing) > 0 {
		return usage("measuring a detector needs %v, too", missing)
	}
	for _, set := range f.sets().all() {
		if !ood.ValidID(set.key) || set.key == evaluation.All || set.key == evaluation.Near || set.key == evaluation.Far {
			return usage("%q cannot name a set of pictures; want 1 to 63 of a-z 0-9 - _, and not all, near or far", set.key)
		}
	}
	return f.VerdictFlags.check()
}

// run measures the detector, writes the folder and holds it against the conditions.
func (f ByHandFlags) run(ctx context.Context, s *Session) error {
	judge, err := f.VerdictFlags.open(ctx, s)
	if err != nil {
		return err
	}
	name, model, err := s.model(ctx, f.Model)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(f.Out, evaluation.MetricsName)); err == nil && !f.Force {
		return usage("%s holds a measurement already; choose another folder, or replace it with --force", f.Out)
	}
	show := s.progress()
	defer show.close()
	scoring := app.Scoring{Name: name, Model: model, ID: f.ID, Score: f.By, Features: true, ONNX: onnx.Config{Threads: f.Threads}}
	for _, set := range f.sets().ood() {
		scoring.OOD = append(scoring.OOD, app.Pictures{Name: set.Name, Group: set.Group, Path: set.Path})
	}
	for _, set := range f.Shifted {
		scoring.Shifted = append(scoring.Shifted, app.Pictures{Name: set.key, Path: kong.ExpandPath(set.value)})
	}
	var done int64
	total := int64(len(scoring.OOD) + len(scoring.Shifted) + 2)
	m, summary, err := scoring.Run(ctx, func(what string) {
		show.show(standing{what: "score", done: done, total: total, unit: "sets", message: what})
		done++
	})
	if err != nil {
		return err
	}
	show.close()
	if err := writeMeasured(f.Out, m, summary); err != nil {
		return err
	}
	if s.json() {
		if err := s.value(summary); err != nil {
			return err
		}
	} else {
		s.describeSummary(summary)
		s.say("")
		s.say("scores and metrics are in %s", f.Out)
	}
	return judge.hold(ctx, s, m, summary)
}

// model reads a detector's file, or fetches that of a detector of the server.
func (s *Session) model(ctx context.Context, what string) (name string, model []byte, err error) {
	info, statErr := os.Stat(what)
	if statErr == nil && info.Mode().IsRegular() {
		if model, err = os.ReadFile(what); err != nil {
			return "", nil, err
		}
		return filepath.Base(what), model, nil
	}
	if name, err = resource(ood.Detectors, what); err != nil {
		return "", nil, usage("--detector %s: neither a file nor the name of a detector", what)
	}
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := trainer.DownloadDetector(ctx, &trainerv1.DownloadDetectorRequest{Name: name})
	if err != nil {
		return "", nil, err
	}
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return name, model, nil
		}
		if err != nil {
			return "", nil, fmt.Errorf("--detector %s is no file here; on the server: %w", what, err)
		}
		model = append(model, piece.GetData()...)
	}
}

// writeMeasured writes a measurement to a folder. What marks it as complete comes last.
func writeMeasured(dir string, m *evaluation.Measured, s evaluation.Summary) error {
	return m.Write(s, func(name string, data []byte) error {
		return replaceFile(filepath.Join(dir, filepath.FromSlash(name)), func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(data))
			return err
		})
	})
}

// describeSummary prints the tables of a measurement.
func (s *Session) describeSummary(sum evaluation.Summary) {
	var t table
	t.row("detector", sum.Detector.Name)
	t.row("threshold", fmt.Sprintf("%.4g of %s; below is out of distribution", sum.Detector.Threshold, sum.Detector.Score))
	t.row("ID accuracy", fmt.Sprintf("%s (%s to %s) of %d pictures", percent(sum.ID.Accuracy), percent(sum.ID.Interval.Low), percent(sum.ID.Interval.High), sum.ID.Count))
	t.row("ID accepted", percent(sum.ID.Accepted))
	t.row("calibration", "expected error "+percent(sum.ID.ECE))
	t.print(s.Out)
	if len(sum.OOD) > 0 {
		s.say("")
		s.oodTable(sum)
		s.say("")
		s.scoreTable(sum)
	}
	if len(sum.Shifted) > 0 {
		s.say("")
		var shifted table
		shifted.row("SHIFTED SET", "PICTURES", "ACCURACY", "ACCEPTED")
		for _, r := range sum.Shifted {
			shifted.row(r.Name, r.Count, percent(r.Accuracy), percent(r.Accepted))
		}
		shifted.row("mean", "", percent(sum.ShiftedAccuracy), "")
		shifted.print(s.Out)
	}
}

func (s *Session) oodTable(sum evaluation.Summary) {
	var t table
	t.row("OOD SET", "PICTURES", "FPR95", "95 % INTERVAL", "AUROC", "AUPR IN", "AUPR OUT", "FPR95, OOD POSITIVE")
	for _, r := range sum.OOD {
		i := r.Intervals.FPR95IDPositive
		t.row(labelled(r.Name, r.Group), r.OOD, percent(r.FPR95IDPositive), fmt.Sprintf("%.1f to %.1f", 100*i.Low, 100*i.High), percent(r.AUROC), percent(r.AUPRIn), percent(r.AUPROut), percent(r.FPR95OODPositive))
	}
	for _, a := range sum.Averages {
		if a.Sets > 1 {
			i := a.Intervals.FPR95IDPositive
			t.row("mean of "+a.Group, fmt.Sprintf("%d sets", a.Sets), percent(a.FPR95IDPositive), fmt.Sprintf("%.1f to %.1f", 100*i.Low, 100*i.High), percent(a.AUROC), percent(a.AUPRIn), percent(a.AUPROut), percent(a.FPR95OODPositive))
		}
	}
	t.print(s.Out)
}

// scoreTable prints FPR95 and AUROC of every score, means over the OOD sets.
func (s *Session) scoreTable(sum evaluation.Summary) {
	var t table
	t.row("SCORE", "FPR95, MEAN", "AUROC, MEAN")
	for _, name := range sum.Detector.Scores {
		var fpr, auroc float64
		for _, r := range sum.OOD {
			fpr, auroc = fpr+r.ByScore[name].FPR95IDPositive, auroc+r.ByScore[name].AUROC
		}
		n := float64(len(sum.OOD))
		mark := name
		if name == sum.Detector.Score {
			mark += " (decides)"
		}
		t.row(mark, percent(fpr/n), percent(auroc/n))
	}
	t.print(s.Out)
}
